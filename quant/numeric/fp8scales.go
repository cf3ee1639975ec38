package numeric

import "math"

// vLLM runs W4A8-FP8 weights with FP8 group scales (docs/facts/engine-vllm.md 5
// item 2). At load it turns a row of scales s into e = e4m3(s/c) under a row
// scale c = max|s|/448, not below 1/(448·512), and then stores e/8 as E4M3 with
// 8·c. A group scale survives unchanged only if it is c times a value that
// passes both casts; the arithmetic below chooses such scales.

// minRowScale is the smallest row scale of that conversion.
const minRowScale = float32(1) / (E4M3Max * 512)

// fp8Levels are the values a group scale can have in units of the row scale:
// eight times every positive E4M3 value up to 56, ascending.
var fp8Levels = func() []float32 {
	var l []float32
	for b := range 256 {
		if v := 8 * e4m3[b]; v > 0 && v <= E4M3Max {
			l = append(l, v)
		}
	}
	return l
}()

// VLLMGroupScales returns the group scales that vLLM's W4A8-FP8 kernels apply
// for one row of stored scales [cols/group].
func VLLMGroupScales(row []float32) []float32 {
	c := max(math.Float32frombits(absMaxBits(row))/E4M3Max, minRowScale)
	out := make([]float32, len(row))
	for i, s := range row {
		e := E4M3ToF32(F32ToE4M3(s / c))
		out[i] = E4M3ToF32(F32ToE4M3(e/8)) * (8 * c)
	}
	return out
}

// groupFit is what fp8Row remembers of a group between its two passes.
type groupFit struct {
	plain blockScale
	sumSq float64
	top   float32
}

// fp8Row quantises a row of int4 groups with positive scales that the
// conversion keeps. The group with the largest weight gets its best scale,
// which becomes 448 times the row scale c; every other group gets the best of
// the BF16 values nearest to c × level. The conversion then changes a scale by
// no more than its own BF16 rounding, 2^-9. (Below c = 1/(448·512) the engine
// takes that constant, and all groups are multiples of it.)
func (x *Scratch) fp8Row(row []float32, r int, scales []float32, st *Stats) {
	s, m := &x.spec, &x.m
	var sum runError
	var plainSq float64
	widest := 0
	for b := range scales {
		g := &x.group[b]
		w := row[b*m.BlockCols : (b+1)*m.BlockCols]
		g.top = largest(w)
		g.plain = s.plainScale(float32(math.Abs(float64(g.top))))
		e := encode(x.row[b*m.BlockCols:], w, Int4, g.plain.by, g.plain.factor, g.plain.stored)
		g.sumSq = e.sumSq
		plainSq += e.errSq
		if math.Abs(float64(g.top)) > math.Abs(float64(x.group[widest].top)) {
			widest = b
		}
	}
	c := s.rowScale(row[widest*m.BlockCols:(widest+1)*m.BlockCols], &x.group[widest])
	for b := range scales {
		w := row[b*m.BlockCols : (b+1)*m.BlockCols]
		g := &x.group[b]
		scales[b] = RoundBF16(E4M3Max * c)
		if g.top != 0 && (b != widest || c == minRowScale) {
			scales[b] = bestLevel(w, g, c)
		}
		k := s.against(scales[b])
		sum.add(encode(x.row[b*m.BlockCols:(b+1)*m.BlockCols], w, Int4, k.by, k.factor, k.stored))
	}
	x.store(r)
	st.addRun(sum, plainSq)
}

// rowScale returns c from the group with the largest weight.
func (s *Spec) rowScale(w []float32, g *groupFit) float32 {
	if g.top == 0 {
		return 0x1p-16
	}
	free := *s
	free.Signed = false
	best := free.searchScale(w, g.sumSq, g.top)
	if best == 0 {
		best = g.plain.stored
	} else if e := levelErrors(w, g, g.plain.stored, best); e[0] <= e[1] {
		best = g.plain.stored
	}
	return max(best/E4M3Max, minRowScale)
}

// levelErrors are the squared errors of a group under up to maxCandidates scales.
func levelErrors(w []float32, g *groupFit, scales ...float32) [maxCandidates]float64 {
	f := fit{w: w, sumSq: g.sumSq}
	return f.try(scales...)
}

// bestLevel tries the levels from the smallest of interest, a tenth of the
// largest weight or so, to that which leaves no weight outside the code range,
// and returns the stored scale of smallest error.
func bestLevel(w []float32, g *groupFit, c float32) float32 {
	top := float32(math.Abs(float64(g.top)))
	lo, hi := top/11, top/6.9
	low := math.Inf(1)
	var best float32
	var batch [maxCandidates]float32
	n := 0
	judge := func() {
		for i, e := range levelErrors(w, g, batch[:n]...) {
			if i < n && e < low {
				best, low = batch[i], e
			}
		}
		n = 0
	}
	for i, l := range fp8Levels {
		s := RoundBF16(l * c)
		last := i == len(fp8Levels)-1
		if !last && fp8Levels[i+1]*c <= lo {
			continue
		}
		batch[n] = s
		if n++; n == maxCandidates {
			judge()
		}
		if s >= hi {
			break
		}
	}
	judge()
	return best
}
