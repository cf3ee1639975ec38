package numeric

import (
	"math"
	"slices"
)

// SampleGlobal accumulates groups of a fused set of weights to choose the
// global scale of NVFP4 by: the largest magnitude, and every so many groups
// for the search of Best.
type SampleGlobal struct {
	amax   float32
	groups []float32 // sixteen each
	seen   int
	every  int
}

// sampleGroups is how many groups the global scale is searched on.
const sampleGroups = 2048

// Add takes rows of a weight [rows, cols]. The error is a *NonFiniteError.
func (g *SampleGlobal) Add(w []float32, cols int) error {
	top := absMaxBits(w)
	if top >= infBits {
		i := FirstNonFinite(w)
		return &NonFiniteError{Row: i / cols, Col: i % cols, Value: w[i]}
	}
	g.amax = max(g.amax, math.Float32frombits(top))
	g.every = max(g.every, 1)
	for lo := 0; lo+16 <= len(w); lo += 16 {
		if g.seen++; g.seen%g.every != 0 {
			continue
		}
		g.groups = append(g.groups, w[lo:lo+16]...)
		if len(g.groups) == 2*16*sampleGroups { // keep every second one
			for i := range sampleGroups {
				copy(g.groups[16*i:][:16], g.groups[16*(2*i+1):])
			}
			g.groups = g.groups[:16*sampleGroups]
			g.every *= 2
		}
	}
	return nil
}

// AbsMax is the largest magnitude so far.
func (g *SampleGlobal) AbsMax() float32 { return g.amax }

// Scale returns the global scale: that of the formula, or for Best the one of a
// few below it with the least error of the sampled groups. A smaller divisor
// puts the local scales on other values of E4M3.
func (g *SampleGlobal) Scale(a Arith, sourceF32 bool) float32 {
	first := GlobalNVFP4(g.amax, a, sourceF32)
	if a == Compat || len(g.groups) == 0 || g.amax == 0 {
		return first
	}
	return g.search(first, false)
}

// ScaleOf returns the global scale for a rule: as Scale does, or one that
// multiplies, the largest magnitude over 448·6.
func (g *SampleGlobal) ScaleOf(s Spec) float32 {
	if !s.Times {
		return g.Scale(s.Arith, s.SourceF32)
	}
	first := TimesNVFP4(g.amax)
	if s.Arith == Compat || len(g.groups) == 0 || g.amax/nvfp4Range < minNormal {
		return first
	}
	return g.search(first, true)
}

// search tries a few global scales.
func (g *SampleGlobal) search(first float32, times bool) float32 {
	best, least := first, math.Inf(1)
	var x Scratch
	var out [16]byte
	for i := range 8 {
		x.spec = Spec{Code: E2M1, Rule: NVFP4, Arith: Best, BlockCols: 16, Global: first * (1 - float32(i)/16), Times: times}
		if times {
			x.spec.Global = first / (1 - float32(i)/16)
		}
		sum := 0.0
		if x.eight.begin(&x.spec) {
			sum = x.eight.searched(&x.spec, g.groups)
		} else {
			for w := range slices.Chunk(g.groups, 16) {
				code := x.spec.LocalCode(AbsMax(w))
				e := encodeMicro(out[:], w, E2M1, x.spec.LocalScale(code))
				sum += x.searchMicro(out[:], w, &code, e).errSq
			}
		}
		if sum < least {
			best, least = x.spec.Global, sum
		}
	}
	return best
}
