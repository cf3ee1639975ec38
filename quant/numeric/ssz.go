package numeric

import (
	"math"
	"math/bits"
)

// defaultSSZSteps is msmodelslim's iteration count in the final quantiser.
const defaultSSZSteps = 50

// SSZStop returns the number of steps after which msmodelslim stops its int4
// search, from the Stats of all tiles of a weight quantised with SSZSteps =
// steps, and whether the codes already are those of that number. If not,
// quantise the weight again with SSZSteps = stop; a stop of 0, the absmax
// scales themselves, is SSZSteps = -1.
func (s Stats) SSZStop(steps int) (stop int, exact bool) {
	stop = min(bits.TrailingZeros64(^s.SSZ), max(steps, 0))
	return stop, s.SSZLast <= stop
}

// ssz quantises rows to int4 as msmodelslim's SSZ does (docs/facts/ascend.md
// 3.3 d): from s = absmax/7, repeat s ← Σwq/Σq² with q the codes under the
// previous s, and keep the s of smallest mean squared error. Operations round
// to the weights' dtype, errors are taken in F32, and sums are taken wide and
// rounded once.
func (x *Scratch) ssz(src []float32, st *Stats) {
	s, m := &x.spec, &x.m
	steps := s.SSZSteps
	if steps == 0 {
		steps = defaultSSZSteps
	}
	before := *st
	for {
		for r := range m.Rows {
			x.sszRow(src[r*m.Cols:(r+1)*m.Cols], r, steps, st)
		}
		stop, exact := st.SSZStop(steps)
		if s.SSZSteps != 0 || exact {
			return
		}
		*st, steps = before, stop
	}
}

func (x *Scratch) sszRow(row []float32, r, steps int, st *Stats) {
	s := &x.spec
	k := s.plainScale(math.Float32frombits(absMaxBits(row)))
	best, prev := k.stored, k.stored
	low, next := sszPass(row, best, s.SourceF32)
	for step := range min(max(steps, 0), 64) {
		cur := next
		if cur == prev {
			break // a fixed point: later steps repeat it
		}
		prev = cur
		var e float32
		e, next = sszPass(row, cur, s.SourceF32)
		gain := low - e
		if gain/max(low, 1e-4) >= 1e-10 && (gain >= 1e-10 || gain <= -1e-10) {
			st.SSZ |= 1 << step
		}
		if e < low {
			best, low = cur, e
			st.SSZLast = max(st.SSZLast, step+1)
		}
	}
	plain := encode(x.row, row, Int4, k.by, k.factor, k.stored)
	chosen := s.against(best)
	e := encode(x.row, row, Int4, chosen.by, chosen.factor, chosen.stored)
	x.m.Scales[r] = best
	x.store(r)
	st.addRun(e, plain.errSq)
}

// sszPass rounds a row under the scale s and returns the mean squared error and
// the least-squares scale of the codes. A zero s, which an all-zero row and
// vanishing weights lead to, gives the codes -8, 0 and 7.
func sszPass(w []float32, s float32, f32 bool) (mse, next float32) {
	var value [16]float32 // code × s
	for c := range value {
		if value[c] = float32(c-8) * s; !f32 {
			value[c] = roundFinite(value[c])
		}
	}
	var errSq, wq float64
	var qq int
	for _, v := range w {
		t := v / s
		if t != t {
			t = 0
		}
		if !f32 {
			t = roundFinite(t)
		}
		if t < -8 {
			t = -8
		} else if t > 7 {
			t = 7
		}
		c := int(roundSmall(t))
		d := v - value[(c+8)&15]
		errSq += float64(d * d)
		p := v * float32(c)
		if !f32 {
			p = roundFinite(p)
		}
		wq += float64(p)
		qq += c * c
	}
	num, den := float32(wq), float32(qq)
	if !f32 {
		num, den = roundFinite(num), roundFinite(den)
	}
	next = num / max(den, 1e-30)
	if !f32 {
		next = roundFinite(next)
	}
	return float32(errSq / float64(len(w))), next
}
