package spec

// Counters say how well drafts were accepted, in vLLM's definitions
// (vllm/v1/spec_decode/metrics.py).
type Counters struct {
	K           int   // drafts of a pass
	Passes      int   // vLLM: num_drafts
	DraftTokens int   // Passes · K
	Accepted    int   // drafts accepted
	AcceptedAt  []int // passes that accepted at least i+1 drafts, [K]
}

func newCounters(k int) *Counters { return &Counters{K: k, AcceptedAt: make([]int, k)} }

// add counts a pass that accepted n drafts.
func (c *Counters) add(n int) {
	c.Passes++
	c.DraftTokens += c.K
	c.Accepted += n
	for i := range n {
		c.AcceptedAt[i]++
	}
}

// AcceptanceRate is accepted drafts by all drafts; 0 without a pass.
func (c *Counters) AcceptanceRate() float64 { return ratio(c.Accepted, c.DraftTokens) }

// AcceptanceLength is the mean number of tokens of a pass, 1 to K+1; 1 without
// a pass.
func (c *Counters) AcceptanceLength() float64 { return 1 + ratio(c.Accepted, c.Passes) }

// PerPosition is the part of all passes that accepted draft 1, 2, … K.
func (c *Counters) PerPosition() []float64 {
	out := make([]float64, len(c.AcceptedAt))
	for i, n := range c.AcceptedAt {
		out[i] = ratio(n, c.Passes)
	}
	return out
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
