//go:build !amd64 || purego

package numeric

// Elsewhere the leaf loops have no twins.
var vector = false

type sums struct{ sq, er laneSum }

func (s *sums) squares() *laneSum { return &s.sq }
func (s *sums) errors() *laneSum  { return &s.er }
func (s *sums) worst() uint32     { return 0 }

func absMaxBitsVector([]float32) (uint32, int)                  { return 0, 0 }
func decodeBF16Vector([]float32, []byte) int                    { return 0 }
func correlateVector([]float32, float32, *laneSum) (int32, int) { return 0, 0 }

func packNibblesVector(dst, q []byte) int { return 0 }

func encodeChunkVector([]byte, []float32, Code, divide, float32, float32, *sums) int { return 0 }
