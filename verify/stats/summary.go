package stats

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Summary condenses rows. KL figures are nats per token.
type Summary struct {
	Tokens            int     `json:"tokens"`
	Sequences         int     `json:"sequences"`
	MeanKL            float64 `json:"mean_kl"`
	Upper95           float64 `json:"upper95"`  // one-sided bound of the mean
	Upper999          float64 `json:"upper999"` // always-valid bounds: Sequential; 0 below MinSequences
	Lower999          float64 `json:"lower999"`
	StdErr            float64 `json:"std_err"`
	P50               float64 `json:"p50"`
	P90               float64 `json:"p90"`
	P99               float64 `json:"p99"`
	P999              float64 `json:"p999"`
	MaxKL             float64 `json:"max_kl"`
	MaxAt             int     `json:"max_at"` // index into the rows
	ReverseMean       float64 `json:"reverse_mean"`
	JSMean            float64 `json:"js_mean"`
	NRMSE             float64 `json:"nrmse"` // mean over rows
	FlipRate          float64 `json:"flip_rate"`
	FlipRateConfident float64 `json:"flip_rate_confident"` // where the source's entropy is below 1 nat
	Top5              float64 `json:"top5_overlap"`        // mean overlap, 0..1
	Sigma             float64 `json:"sigma"`               // mean standard deviation of the source's logits
	NLLSource         float64 `json:"nll_source"`          // NaN without known next tokens
	NLLResult         float64 `json:"nll_result"`
	DeltaNLL          float64 `json:"delta_nll"`
	PerplexitySource  float64 `json:"perplexity_source"`
	PerplexityRes     float64 `json:"perplexity_result"`
	NonFinite         int     `json:"non_finite"`
}

// bootstrapDraws is enough for a 95 % bound with about 1 % of noise.
const bootstrapDraws = 2000

// Summarize computes the summary of rows.
func Summarize(rows []Row) Summary {
	s := Summary{Tokens: len(rows)}
	if len(rows) == 0 {
		return s
	}
	kl := make([]float64, len(rows))
	var flips, confident, confidentFlips, known int
	for i, r := range rows {
		kl[i] = r.KL
		s.MeanKL += r.KL
		s.ReverseMean += r.Reverse
		s.JSMean += r.JS
		s.NRMSE += r.NRMSE
		s.Sigma += r.Sigma
		s.Top5 += float64(r.Top5) / 5
		if r.NonFinite {
			s.NonFinite++
		}
		if r.KL > rows[s.MaxAt].KL {
			s.MaxAt = i
		}
		if r.Flip() {
			flips++
		}
		if r.Entropy < 1 {
			confident++
			if r.Flip() {
				confidentFlips++
			}
		}
		if !math.IsNaN(r.NLL) {
			known++
			s.NLLSource += r.NLL
			s.NLLResult += r.OtherN
		}
	}
	n := float64(len(rows))
	for _, p := range []*float64{&s.MeanKL, &s.ReverseMean, &s.JSMean, &s.NRMSE, &s.Sigma, &s.Top5} {
		*p /= n
	}
	s.FlipRate = float64(flips) / n
	if confident > 0 {
		s.FlipRateConfident = float64(confidentFlips) / float64(confident)
	}
	s.NLLSource /= float64(known)
	s.NLLResult /= float64(known)
	s.DeltaNLL = s.NLLResult - s.NLLSource
	s.PerplexitySource, s.PerplexityRes = math.Exp(s.NLLSource), math.Exp(s.NLLResult)
	s.MaxKL = rows[s.MaxAt].KL
	slices.Sort(kl)
	s.P50, s.P90, s.P99, s.P999 = quantile(kl, .5), quantile(kl, .9), quantile(kl, .99), quantile(kl, .999)
	s.bounds(rows)
	return s
}

// quantile interpolates linearly between order statistics of sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (sorted[i+1]-sorted[i])*(at-float64(i))
}

// bounds fills the confidence bounds: sequences are drawn with replacement,
// the mean is that of all tokens drawn.
func (s *Summary) bounds(rows []Row) {
	type block struct {
		sum float64
		n   int
	}
	var blocks []block
	index := map[int]int{}
	for _, r := range rows {
		i, ok := index[r.Seq]
		if !ok {
			i = len(blocks)
			index[r.Seq] = i
			blocks = append(blocks, block{})
		}
		blocks[i].sum += r.KL
		blocks[i].n++
	}
	s.Sequences = len(blocks)
	rng := rand.New(rand.NewPCG(0x676c6d, 0x636f6e76))
	means := make([]float64, bootstrapDraws)
	var sq float64
	for d := range means {
		var sum float64
		var n int
		for range blocks {
			b := blocks[rng.IntN(len(blocks))]
			sum += b.sum
			n += b.n
		}
		means[d] = sum / float64(n)
		sq += (means[d] - s.MeanKL) * (means[d] - s.MeanKL)
	}
	s.StdErr = math.Sqrt(sq / bootstrapDraws)
	slices.Sort(means)
	s.Upper95 = max(quantile(means, .95), s.MeanKL)
	if len(blocks) >= MinSequences {
		s.Lower999, s.Upper999 = Sequential(rows)
	}
}
