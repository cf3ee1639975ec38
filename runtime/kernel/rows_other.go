//go:build !amd64 || purego

package kernel

func dotVector(_, _ []float32, _ *[8]float32) int            { return 0 }
func sumVector([]float32, *[8]float32) int                   { return 0 }
func addVector(_, _ []float32) int                           { return 0 }
func addWideVector([]float64, []float32) int                 { return 0 }
func beyondVector(_, _ []float32, _ float32) int             { return 0 }
func axpyVector([]float32, float32, []float32) int           { return 0 }
func scaleVector([]float32, float32) int                     { return 0 }
func maxVector(_ []float32, top float32) (float32, int)      { return top, 0 }
func normVector(_, _, _ []float32, _ float32) int            { return 0 }
func swigluVector(_, _, _ []float32) int                     { return 0 }
func expSumVector(_ []float32, _ float32, _ *[8]float32) int { return 0 }
func quantizeVector([]int8, []float32, float32) int          { return 0 }
func sumInt8Vector([]int8) (int32, int)                      { return 0, 0 }

func codeSumsVector(_, _, _ *[8]float32, _, _ []float32, _, _ float32) bool { return false }
