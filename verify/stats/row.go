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
	a := NewAccumulator(next)
	a.Add(z, y)
	return a.Row()
}

// Accumulator is the comparison of one position whose logits come a run of the
// vocabulary at a time, in order, so that no row of them need ever be whole.
// How they are cut into runs changes no bit of the Row.
//
// With a = max z and b = max y so far, the sums are Σ e^(z−a), Σ e^(y−b),
// Σ e^(z−a)·−d, Σ e^(y−b)·d and Σ e^(z−a)(z−a), scaled anew when a maximum
// grows.
type Accumulator struct {
	n, next            int
	max, otherMax      float64
	sum, otherSum      float64
	cross, otherCross  float64
	weighted           float64 // Σ e^(z−a)(z−a)
	first              float64 // z of the first entry: the variance is taken around it
	dev, dev2          float64 // Σ (z−first), Σ (z−first)²
	firstDiff          float64 // y−z of the first entry
	diff, diff2        float64 // Σ (d−firstDiff), Σ (d−firstDiff)² with d = y−z
	nextZ, nextY       float64
	best, otherBest    [5]ranked
	ranked, otherTaken int
	js                 divergence
	nonFinite          bool
}

// ranked is a logit with its place in the vocabulary.
type ranked struct {
	v  float32
	id int
}

// NewAccumulator starts a row. next is the token that follows, or -1.
func NewAccumulator(next int) *Accumulator {
	return &Accumulator{next: next, max: math.Inf(-1), otherMax: math.Inf(-1), nextZ: math.NaN(), nextY: math.NaN()}
}

// Add takes the next run of the vocabulary: source logits z, result logits y.
func (a *Accumulator) Add(z, y []float32) {
	if a.n == 0 && len(z) > 0 {
		a.first, a.firstDiff = float64(z[0]), float64(y[0])-float64(z[0])
	}
	for i, v := range z {
		p, q := float64(v), float64(y[i])
		if math.IsNaN(q) || math.IsInf(q, 0) {
			a.nonFinite = true
		}
		if !(p <= a.max) {
			a.rise(p)
		}
		if !(q <= a.otherMax) {
			a.otherRise(q)
		}
		d := q - p - a.firstDiff
		ep, eq := math.Exp(p-a.max), math.Exp(q-a.otherMax)
		a.sum += ep
		a.otherSum += eq
		a.cross -= ep * d
		a.otherCross += eq * d
		a.weighted += ep * (p - a.max)
		a.js.add(d, ep, eq)
		e := p - a.first
		a.dev += e
		a.dev2 += e * e
		a.diff += d
		a.diff2 += d * d
		a.ranked = insert(&a.best, a.ranked, v, a.n+i)
		a.otherTaken = insert(&a.otherBest, a.otherTaken, y[i], a.n+i)
	}
	if i := a.next - a.n; i >= 0 && i < len(z) {
		a.nextZ, a.nextY = float64(z[i]), float64(y[i])
	}
	a.n += len(z)
}

// rise scales the source's sums to a new maximum.
func (a *Accumulator) rise(p float64) {
	if a.sum > 0 {
		s := math.Exp(a.max - p)
		a.weighted = (a.weighted + a.sum*(a.max-p)) * s
		a.sum *= s
		a.cross *= s
		a.js.source.scale(s)
	}
	a.max = p
}

func (a *Accumulator) otherRise(q float64) {
	if a.otherSum > 0 {
		s := math.Exp(a.otherMax - q)
		a.otherSum *= s
		a.otherCross *= s
		a.js.result.scale(s)
	}
	a.otherMax = q
}

// Row returns the figures of what was added.
func (a *Accumulator) Row() Row {
	r := Row{NLL: math.NaN(), OtherN: math.NaN(), NonFinite: a.nonFinite, Top1: -1, Other: -1}
	if a.n == 0 {
		return r
	}
	n := float64(a.n)
	norm := max(a.dev2-a.dev*a.dev/n, 0)
	r.Sigma = math.Sqrt(norm / n)
	if a.ranked > 0 {
		r.Top1 = a.best[0].id
	}
	if a.ranked > 1 {
		r.Margin = float64(a.best[0].v) - float64(a.best[1].v)
	}
	if a.nonFinite {
		r.KL, r.Reverse, r.JS, r.NRMSE = math.Inf(1), math.Inf(1), math.Ln2, math.Inf(1)
		return r
	}
	lz, ly := a.max+math.Log(a.sum), a.otherMax+math.Log(a.otherSum)
	shift := ly - lz - a.firstDiff
	r.KL = max(a.cross/a.sum+shift, 0)
	r.Reverse = max(a.otherCross/a.otherSum-shift, 0)
	r.JS = min(max(a.js.value(a.sum, a.otherSum, shift), 0), math.Ln2)
	r.Entropy = math.Log(a.sum) - a.weighted/a.sum
	switch diff := max(a.diff2-a.diff*a.diff/n, 0); {
	case norm > 0:
		r.NRMSE = math.Sqrt(diff / norm)
	case diff > 0:
		r.NRMSE = math.Inf(1)
	}
	r.Other = a.otherBest[0].id
	for _, x := range a.best[:a.ranked] {
		for _, y := range a.otherBest[:a.otherTaken] {
			if x.id == y.id {
				r.Top5++
			}
		}
	}
	if !math.IsNaN(a.nextZ) {
		r.NLL, r.OtherN = lz-a.nextZ, ly-a.nextY
	}
	return r
}

// insert keeps the largest values, largest first; of equal values the lower
// index, which comes first, stays first. It returns how many there are.
func insert(best *[5]ranked, n int, v float32, id int) int {
	if n == len(best) && !(v > best[n-1].v) {
		return n
	}
	at := n
	for at > 0 && v > best[at-1].v {
		at--
	}
	if n < len(best) {
		n++
	}
	copy(best[at+1:n], best[at:n-1])
	best[at] = ranked{v, id}
	return n
}
