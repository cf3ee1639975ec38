package stats

import "math"

// divergence collects the Jensen–Shannon divergence of a row without knowing
// the normalisers of its softmaxes, which are known at the end only. With
// r = log q − log p, the difference of the logits less that of the normalisers,
//
//	2·JS = Σ p·G(r)     G(r) = log 2 − log(1+e^r) + e^r·(log 2 − log(1+e^−r))
//	     = Σ q·G(−r)
//
// The sum is taken by bins of the logits' difference d, each with its weight
// and three moments around its centre: entries with d < 0 by p, the others by
// q, so that no term is larger than its weight. What the series beyond the
// third moment would add is under 1e-7 of the weight of small differences. d is
// counted from that of the first entry: a shift of all logits means nothing.
type divergence struct{ source, result bins }

// bins hold a distribution of |d|: steps of 1/16 up to 1, of 1/4 up to 8, of 1
// up to 64, and the rest.
type bins [binCount]moments

const binCount = 17 + 28 + 56 + 1

// moments are Σ w·x^k, k = 0 … 3, x counted from the bin's centre.
type moments [4]float64

// place returns the bin of |d|.
func place(d float64) int {
	switch {
	case d < 1+1./32:
		return int(d*16 + 0.5)
	case d < 8:
		return 17 + int((d-1)*4)
	case d < 64:
		return 45 + int(d-8)
	}
	return binCount - 1
}

// centres of the bins.
var centres = func() (c [binCount]float64) {
	for k := range c {
		switch x := float64(k); {
		case k < 17:
			c[k] = x / 16
		case k < 45:
			c[k] = 1 + (x-17+0.5)/4
		default:
			c[k] = 8.5 + x - 45
		}
	}
	return c
}()

// add takes an entry: difference of the logits, weights in p and in q.
func (j *divergence) add(d, p, q float64) {
	b, w := &j.result, q
	if d < 0 {
		b, w, d = &j.source, p, -d
	}
	if !(d < math.MaxFloat64) {
		return // the row is not finite
	}
	k := place(d)
	m, x := &b[k], d-centres[k]
	if k == len(b)-1 {
		x = 0 // G is flat here
	}
	m[0] += w
	w *= x
	m[1] += w
	w *= x
	m[2] += w
	m[3] += w * x
}

func (b *bins) scale(s float64) {
	for k := range b {
		for i := range b[k] {
			b[k][i] *= s
		}
	}
}

// value returns the divergence, given the sums of the weights and by how much
// log Σe^y exceeds log Σe^z. Both halves see G at −|d|, moved by that.
func (j *divergence) value(sum, otherSum, shift float64) float64 {
	return (j.source.integral(-shift)/sum + j.result.integral(shift)/otherSum) / 2
}

func (b *bins) integral(shift float64) (out float64) {
	for k, m := range b {
		if m[0] == 0 {
			continue
		}
		// Around the mean of the bin, where the first moment vanishes.
		mean := m[1] / m[0]
		second := m[2] - mean*m[1]
		third := m[3] - 3*mean*m[2] + 2*mean*mean*m[1]
		g := series(shift - centres[k] - mean)
		out += m[0]*g[0] + second*g[2]/2 - third*g[3]/6
	}
	return out
}

// series returns G and its first three derivatives at r.
func series(r float64) [4]float64 {
	e := math.Exp(r) * (math.Ln2 - math.Log1p(math.Exp(-r)))
	if r < -30 {
		e = math.Exp(r) * (math.Ln2 + r) // log(1+e^−r) is −r
	}
	s := 1 / (1 + math.Exp(-r))
	return [4]float64{math.Ln2 - math.Log1p(math.Exp(r)) + e, e, e + s, e + s + s*(1-s)}
}
