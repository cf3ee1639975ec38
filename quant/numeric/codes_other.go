//go:build !amd64 || purego

package numeric

// Elsewhere codes are widened before they are rounded.

func takesCodes(int) bool { return false }

func absMaxCodes([]byte, scaling) uint32 { panic("numeric: no kernel") }

func errorVector([]float32, Code, float32, float32, float64) (float64, bool) { return 0, false }

func alikeVector([]float32, Code, float32) (same int, known bool) { return 0, false }

func (s scaling) decodeVector([]float32, []byte) int { return 0 }

// Nor are there tables from code to code.

type recoding struct{}

type recodes struct{}

func (x *Scratch) recode(span, Code, blockScale) (recodes, bool) { return recodes{}, false }
func (recodes) encode([]byte) runError                           { panic("numeric: no kernel") }
func (recodes) errorBelow(float64) float64                       { panic("numeric: no kernel") }
