//go:build !amd64 || purego

package numeric

// Nothing but AVX2 has twins of encode for a part of a chunk: others take whole
// runs, of any number of chunks.

type sums struct{ sq, er laneSum }

func (s *sums) squares() *laneSum { return &s.sq }
func (s *sums) errors() *laneSum  { return &s.er }
func (s *sums) worst() uint32     { return 0 }

func encodeChunkVector([]byte, []float32, Code, divide, float32, float32, *sums) int { return 0 }

// Nor of the loops over small groups.

func groupTwins() bool              { return false }
func (*groups) turn([]float32)      { panic("numeric: no kernel") }
func (*groups) turnBF16([]byte)     { panic("numeric: no kernel") }
func (*groups) formula(*Spec)       { panic("numeric: no kernel") }
func (*groups) search(Code)         { panic("numeric: no kernel") }
func (*groups) encode([]byte, Code) { panic("numeric: no kernel") }
