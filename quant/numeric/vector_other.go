//go:build (!amd64 && !arm64) || purego

package numeric

// Elsewhere the leaf loops have no twins.

func absMaxBitsVector([]float32) (uint32, int)                           { return 0, 0 }
func indexAbsVector([]float32, uint32) int                               { return 0 }
func decodeBF16Vector([]float32, []byte) int                             { return 0 }
func correlateVector(_, _ []float32, _ *[2 * maxCandidates]float32) bool { return false }

func packNibblesVector(dst, q []byte) int     { return 0 }
func unpackNibblesVector(dst, src []byte) int { return 0 }

func encodeRunVector([]byte, []float32, Code, divide, float32, float32, *runError) int { return 0 }

func dequantInt8Vector([]float32, []byte, float32) int { return 0 }

func dequantE4M3Vector([]float32, []byte, float32) int { return 0 }

func dequantE2M1Vector([]float32, []byte, int, []float32) int { return 0 }

func narrowBF16Vector([]byte, []float32) int { return 0 }

func takesBF16(int) bool { return false }

func absMaxBF16([]byte) uint32 { panic("numeric: no kernel") }

func encodeBF16(_, _ []byte, _ Code, _, _ float32) runError { panic("numeric: no kernel") }

func encodeBlock(_, _ []byte, _, _ int, _, _ float32) runError { panic("numeric: no kernel") }
