package stats

import "math"

// Row is the comparison of one position.
type Row struct {
	Seq, Pos    int
	KL          float64 // nats, source first; never below 0
	Reverse     float64 // nats
	JS          float64 // nats
	NRMSE       float64
	Sigma       float64 // standard deviation of the source's logits
	Entropy     float64 // of the source, nats
	Top1, Other int     // argmax of source and result
	Margin      float64 // source: best minus second-best logit
	Top5        int     // how many of the source's five best are among the result's
	NLL, OtherN float64 // −log p(next token) of source and result; NaN when the next token is unknown
	NonFinite   bool    // the result has a NaN or infinity in this row
}

// Flip reports whether the most likely token changed.
func (r Row) Flip() bool { return r.Top1 != r.Other }

// Compare compares source logits z with result logits y (same length, the
// real vocabulary). next is the token that follows, or -1.
func Compare(z, y []float32, next int) Row {
	r := Row{NLL: math.NaN(), OtherN: math.NaN()}
	for _, v := range y {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			r.NonFinite = true
			break
		}
	}
	lz, meanZ, varZ := logSumExp(z)
	r.Sigma = math.Sqrt(varZ)
	best := top(z, 5)
	r.Top1 = best[0]
	if len(best) > 1 {
		r.Margin = float64(z[best[0]]) - float64(z[best[1]])
	}
	if r.NonFinite {
		r.KL, r.Reverse, r.JS, r.NRMSE, r.Other = math.Inf(1), math.Inf(1), math.Ln2, math.Inf(1), -1
		return r
	}
	ly, meanY, _ := logSumExp(y)
	var diff, norm float64
	for i := range z {
		a, b := float64(z[i]), float64(y[i])
		lp, lq := a-lz, b-ly
		p, q := math.Exp(lp), math.Exp(lq)
		r.KL += p * (lp - lq)
		r.Reverse += q * (lq - lp)
		r.Entropy -= p * lp
		if m := math.Log((p + q) / 2); !math.IsInf(m, -1) {
			r.JS += (p*(lp-m) + q*(lq-m)) / 2
		}
		d := (b - meanY) - (a - meanZ)
		diff += d * d
		norm += (a - meanZ) * (a - meanZ)
	}
	r.KL, r.Reverse, r.JS = max(r.KL, 0), max(r.Reverse, 0), max(r.JS, 0)
	if norm > 0 {
		r.NRMSE = math.Sqrt(diff / norm)
	} else if diff > 0 {
		r.NRMSE = math.Inf(1)
	}
	other := top(y, 5)
	r.Other = other[0]
	for _, i := range best {
		for _, j := range other {
			if i == j {
				r.Top5++
			}
		}
	}
	if next >= 0 && next < len(z) {
		r.NLL, r.OtherN = lz-float64(z[next]), ly-float64(y[next])
	}
	return r
}

// logSumExp returns log Σ exp z, the mean and the variance of z.
func logSumExp(z []float32) (lse, mean, variance float64) {
	if len(z) == 0 {
		return math.Inf(-1), 0, 0
	}
	hi := math.Inf(-1)
	for _, v := range z {
		hi = max(hi, float64(v))
		mean += float64(v)
	}
	mean /= float64(len(z))
	var s float64
	for _, v := range z {
		s += math.Exp(float64(v) - hi)
		variance += (float64(v) - mean) * (float64(v) - mean)
	}
	return hi + math.Log(s), mean, variance / float64(len(z))
}

// top returns the indices of the k largest values, largest first; of equal
// values the lower index comes first.
func top(z []float32, k int) []int {
	idx := make([]int, 0, k)
	for i, v := range z {
		at := len(idx)
		for at > 0 && v > z[idx[at-1]] {
			at--
		}
		if at >= k {
			continue
		}
		if len(idx) < k {
			idx = append(idx, 0)
		}
		copy(idx[at+1:], idx[at:])
		idx[at] = i
	}
	return idx
}
