package numeric

import "math"

// The int4 scale search of the best arithmetic.
//
// For any codes q the best scale is Σwq/Σq² and leaves the squared error
// Σw² − (Σwq)²/Σq². So a candidate scale is judged by the error it could reach
// with its codes, from two sums and without computing an error; the winner's
// least-squares scale is rounded to its stored form, measured, and refined
// while that helps. Plain absmax rounding is always measured too and kept where
// it is not beaten.

// maxGroup is the longest run of weights searched with fixed candidates. In
// longer ones the largest weight says little about the best scale.
const maxGroup = 256

// The divisors of the largest weight that a group tries. A positive scale whose
// largest weight is negative uses the code -8, as a negative scale does where
// it is positive; the first list is for that side of the range, the second for
// the side that ends at 7.
var (
	fullSide  = [...]float32{8, 8.5, 9, 10}
	shortSide = [...]float32{7.5, 8.5, 9.5}
	fullOnly  = [...]float32{7.6, 8, 8.4, 8.9, 9.5, 10.5}
	shortOnly = [...]float32{7, 7.5, 8, 8.6, 9.4, 10.4}
)

// fit is a search in progress over one run of weights.
type fit struct {
	w       []float32
	sumSq   float64
	gain    float64 // largest (Σwq)²/Σq² so far
	optimal float64 // and its Σwq/Σq²
}

// try judges candidate scales and returns their own squared errors.
func (f *fit) try(scales ...float32) (errSq [maxCandidates]float64) {
	var r [maxCandidates]float32
	for i, s := range scales {
		r[i] = 1 / s
	}
	var wq, qq [maxCandidates]float64
	correlate(f.w, r[:len(scales)], &wq, &qq)
	for i, s := range scales {
		if g := wq[i] * wq[i] / qq[i]; g > f.gain {
			f.gain, f.optimal = g, wq[i]/qq[i]
		}
		errSq[i] = f.errSq(float64(s), wq[i], qq[i])
	}
	return errSq
}

func (f *fit) errSq(s, wq, qq float64) float64 {
	return f.sumSq - float64(2*s*wq) + float64(float64(s*s)*qq)
}

// refine rounds the optimal scale to its stored form, measures it and repeats
// with the optimum of the codes found, at most steps times and while the error
// falls. It returns 0 where no candidate is usable.
func (f *fit) refine(spec *Spec, steps int) float32 {
	var best float32
	low := math.Inf(1)
	for next := f.optimal; steps > 0; steps-- {
		s := spec.round(float32(next))
		if a := math.Abs(float64(s)); !(a >= minNormal && a <= math.MaxFloat32) || s == best {
			break
		}
		r := [1]float32{1 / s}
		var wq, qq [maxCandidates]float64
		correlate(f.w, r[:], &wq, &qq)
		e := f.errSq(float64(s), wq[0], qq[0])
		if !(e < low) {
			break
		}
		best, low, next = s, e, wq[0]/qq[0]
	}
	return best
}

// searchScale returns the stored scale for one run of weights whose largest
// one is m, 0 where the plain scale has to do.
func (s *Spec) searchScale(w []float32, sumSq float64, m float32) float32 {
	if m == 0 {
		return 0
	}
	f := fit{w: w, sumSq: sumSq}
	if len(w) > maxGroup {
		f.scan(s, m)
		return f.refine(s, 6)
	}
	f.sides(s, m)
	return f.refine(s, 2)
}

// sides tries the fixed divisors of a group.
func (f *fit) sides(s *Spec, m float32) {
	var c [maxCandidates]float32
	n := 0
	add := func(s float32) { c[n] = s; n++ }
	if s.Signed {
		for _, d := range fullSide {
			add(-m / d)
		}
		for _, d := range shortSide {
			add(m / d)
		}
	} else {
		list := &shortOnly
		if m < 0 {
			list = &fullOnly
		}
		for _, d := range list {
			add(float32(math.Abs(float64(m))) / d)
		}
	}
	f.try(c[:n]...)
}

// scan tries five scales in geometric steps from the absmax scale down to 0.3
// of the root mean square (0.335 is optimal for Gaussian weights), then the
// vertex of the parabola through the best and its neighbours.
func (f *fit) scan(s *Spec, m float32) {
	const steps = 4
	top := float64(m)
	switch {
	case s.Signed:
		top = -top
	case top < 0:
		top = -top
	}
	top /= float64(s.divisor())
	rms := math.Sqrt(f.sumSq / float64(len(f.w)))
	ratio := min(float64(0.3*rms)/math.Abs(top), 0.8)
	step := math.Sqrt(math.Sqrt(ratio))
	var at [steps + 1]float64
	var scales [steps + 1]float32
	for i := range at {
		at[i] = top
		scales[i] = float32(top)
		top *= step
	}
	e := f.try(scales[:]...)
	best := 0
	for i := range at {
		if e[i] < e[best] {
			best = i
		}
	}
	if best == 0 || best == steps {
		return
	}
	curve := e[best-1] - 2*e[best] + e[best+1]
	x := float64(0.5*(e[best-1]-e[best+1])) / curve
	if !(x > -1 && x < 1) {
		return
	}
	// step^x by the parabola through x = -1, 0, 1: exact enough, and free of
	// library functions whose last bits differ between machines.
	inv := 1 / step
	f.try(float32(at[best] * (1 + float64(x*float64(0.5*(step-inv))) + float64(float64(x*x)*float64(0.5*(step+inv-2))))))
}

// largest returns the weight of largest magnitude, the first of equals.
func largest(w []float32) float32 {
	top := absMaxBits(w)
	for _, v := range w[indexAbsVector(w, top):] {
		if math.Float32bits(v)&absMask == top {
			return v
		}
	}
	return 0
}

// searchRow quantises a row of int4 groups with searched scales.
func (x *Scratch) searchRow(row []float32, r int, scales []float32, st *Stats) {
	s, m := &x.spec, &x.m
	var sum runError
	var plainSq float64
	for b := range scales {
		lo, hi := b*m.BlockCols, (b+1)*m.BlockCols
		w, out := row[lo:hi], x.row[lo:hi]
		top := largest(w)
		plain := s.plainScale(float32(math.Abs(float64(top))))
		e := encode(out, w, Int4, plain.by, plain.factor, plain.stored)
		scales[b] = plain.stored
		plainSq += e.errSq
		e = x.improve(out, w, s.searchScale(w, e.sumSq, top), &scales[b], e)
		sum.add(e)
	}
	x.store(r)
	st.addRun(sum, plainSq)
}

// improve replaces the codes in out by those of a searched scale if their error
// is smaller than that of the codes there, e.
func (x *Scratch) improve(out []byte, w []float32, found float32, scale *float32, e runError) runError {
	if found == 0 || found == *scale {
		return e
	}
	x.spare = resize(x.spare, len(w))
	k := x.spec.against(found)
	if better := encode(x.spare, w, Int4, k.by, k.factor, k.stored); better.errSq < e.errSq {
		copy(out, x.spare)
		*scale = found
		return better
	}
	return e
}
