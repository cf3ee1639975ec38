//go:build !amd64 || purego

package kernel

import "github.com/glmconv/glmconv/quant/numeric"

func tilesInt8([]float32, int, *Int8Rows, *numeric.Matrix, *Workers) bool { return false }

func tilesFloat([]float32, int, *FloatRows, FloatType, []byte, int, *Workers) bool { return false }

func tilesE4M3([]float32, int, *E4M3Rows, *numeric.Matrix, *Workers) bool { return false }

func tilesFP4([]float32, int, []float32, int, *numeric.Matrix, *Workers) bool { return false }
