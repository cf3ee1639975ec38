package spec

// Sampler chooses the tokens of one text from rows of logits, as Generate does:
// greedy, or by temperature, top-k and top-p with a seed. It is not safe for
// concurrent use.
type Sampler struct{ s *sampler }

// NewSampler returns the sampler of a text; of the options it takes
// Temperature, TopK, TopP and Seed.
func NewSampler(o Options) *Sampler { return &Sampler{newSampler(o)} }

// Next chooses the token after a row of logits [V].
func (s *Sampler) Next(z []float32) int { return s.s.next(z) }
