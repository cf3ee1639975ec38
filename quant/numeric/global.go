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
	seen   int       // groups
	every  int       // a power of two
}

// sampleGroups is how many groups the global scale is searched on, at most twice
// as many.
const sampleGroups = 2048

// Part makes g the sample of a part of a set of n weights that begins with weight
// first, a multiple of 16. Parts that are joined in their order are what one
// sample of the whole set would be.
func (g *SampleGlobal) Part(first, n int) {
	g.seen, g.every = first/16, 1
	for n/16/g.every >= 2*sampleGroups {
		g.every *= 2
	}
}

// Join adds the sample of the next part of a set.
func (g *SampleGlobal) Join(o *SampleGlobal) {
	g.amax = max(g.amax, o.amax)
	g.groups = append(g.groups, o.groups...)
	g.seen, g.every = o.seen, o.every
}

// Add takes rows of a weight [rows, cols]. The error is a *NonFiniteError.
func (g *SampleGlobal) Add(w []float32, cols int) error {
	top := absMaxBits(w)
	if top >= infBits {
		i := FirstNonFinite(w)
		return &NonFiniteError{Row: i / cols, Col: i % cols, Value: w[i]}
	}
	g.sample(top, len(w)/16, func(dst []float32, at int) { copy(dst, w[at:]) })
	return nil
}

// AddBytes is Add for weights as a checkpoint stores them. The scratch has to be
// used by nothing else meanwhile.
func (g *SampleGlobal) AddBytes(src []byte, d Decoder, cols int, x *Scratch) error {
	n := len(src) / d.Size
	if d.BF16 && takesBF16(n) {
		if top := absMaxBF16(src); top < infBits {
			g.sample(top, n/16, func(dst []float32, at int) { DecodeBF16(dst, src[2*at:]) })
			return nil
		}
	}
	x.floats = resize(x.floats, n)
	d.Decode(x.floats, src)
	return g.Add(x.floats, cols)
}

// sample takes n groups, those it wants by group, and their largest magnitude.
func (g *SampleGlobal) sample(top uint32, n int, group func(dst []float32, at int)) {
	g.amax = max(g.amax, math.Float32frombits(top))
	g.every = max(g.every, 1)
	for j := g.every - 1 - g.seen%g.every; j < n; j += g.every {
		at := len(g.groups)
		g.groups = append(g.groups, make([]float32, 16)...)
		group(g.groups[at:], 16*j)
		if len(g.groups) == 2*16*sampleGroups { // keep every second one
			for i := range sampleGroups {
				copy(g.groups[16*i:][:16], g.groups[16*(2*i+1):])
			}
			g.groups = g.groups[:16*sampleGroups]
			g.every *= 2
		}
	}
	g.seen += n
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
		if x.groups.begin(&x.spec) {
			sum = x.groups.searched(&x.spec, g.groups)
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
