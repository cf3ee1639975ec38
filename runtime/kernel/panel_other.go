//go:build !amd64 || purego

package kernel

import "github.com/glmconv/glmconv/quant/numeric"

// panelPath has no instance here.
type panelPath struct{}

var panels *panelPath

func (*panelPath) f32([]float32, int, []float32, int, []float32, int, int, int, int, bool) {}

func (*panelPath) subF64([]float64, int, []float64, int, []float64, int, int, int, int) {}

func (*panelPath) transposeF32([]float32, int, []float32, int, int, int) int { return 0 }

func (*panelPath) suits(int, *numeric.Matrix) bool { return false }

func (*panelPath) int8([]float32, int, *Int8Rows, *numeric.Matrix, *Workers) {}

func (*panelPath) widens(*numeric.Matrix) bool { return false }

func (*panelPath) float([]float32, int, []float32, int, FloatType, []byte, int, int, *Workers) {}

func (*panelPath) e4m3([]float32, int, *E4M3Rows, *numeric.Matrix, *Workers) {}

func (*panelPath) weightOnly([]float32, int, []float32, int, *numeric.Matrix, *Workers) {}
