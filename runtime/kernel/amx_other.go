//go:build !amd64 || purego

package kernel

import "github.com/glmconv/glmconv/quant/numeric"

func tilesInt8([]float32, int, *Int8Rows, *numeric.Matrix, *Workers) bool { return false }
