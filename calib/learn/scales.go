package learn

import (
	"math"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// free reports whether scales may be chosen: those of integers that engines use
// as they are stored. Others are taken from package numeric.
func free(s *numeric.Spec) bool {
	return (s.Code == numeric.Int4 || s.Code == numeric.Int8) && !s.FP8Scales && s.BlockRows <= 1
}

// codeRange is that of a code's integers.
func codeRange(c numeric.Code) (lo, hi float32) {
	if c == numeric.Int8 {
		return -128, 127
	}
	return -8, 7
}

// magic rounds |f| < 2^22 to an integer, ties to even, by being added and taken
// away.
const magic = 3 << 22

// storedScale rounds a scale to what the layout stores.
func storedScale(s *numeric.Spec, v float64) float32 {
	f := float32(v)
	if s.Rule == numeric.Ascend && s.Code == numeric.Int4 {
		return f
	}
	return numeric.RoundBF16(f)
}

// usable reports whether a scale has a reciprocal.
func usable(s float32) bool {
	a := math.Abs(float64(s))
	return a >= 0x1p-126 && a <= math.MaxFloat32
}

// grid are the shares of the absmax scale that are tried.
func grid(c numeric.Code) (first, step float64, n int) {
	if c == numeric.Int8 {
		return 1.08, 0.01, 28
	}
	return 1.08, 0.02, 29
}

// tried are the scales of the grid that can be used.
func tried(s *numeric.Spec, base float64) []float32 {
	signs := []float64{1}
	if s.Signed {
		signs = []float64{1, -1}
	}
	first, step, n := grid(s.Code)
	out := make([]float32, 0, 2*n)
	for _, sign := range signs {
		for i := range n {
			if scale := storedScale(s, sign*(first-float64(i)*step)*base); usable(scale) {
				out = append(out, scale)
			}
		}
	}
	return out
}

// searchScale returns the stored scale of one run of weights with the smallest
// Σh(Q(w) − w)² among a grid below the absmax scale and the least-squares scales
// of the codes found (docs/facts/accuracy.md 2.2). The first of equals stays.
func searchScale(s *numeric.Spec, w, h []float32) float32 {
	top := numeric.AbsMax(w)
	lo, hi := codeRange(s.Code)
	base := float64(top) / float64(hi+0.5)
	if s.Rule == numeric.Ascend {
		base = float64(top) / float64(hi)
	}
	plain := storedScale(s, base)
	if !usable(plain) {
		return max(plain, 0x1p-23) // zeros, or next to them: any scale will do
	}
	var ww float32
	for i, v := range w {
		ww += float32(float32(h[i]*v) * v)
	}
	best, found := math.Inf(1), plain
	look := func(scale, wq, qq float32) { // at the error of the codes that a scale gives
		v := float64(scale)
		if e := float64(ww) - 2*v*float64(wq) + v*v*float64(qq); e < best {
			best, found = e, scale
		}
	}
	gain, optimal := math.Inf(-1), 0.0
	list := tried(s, base)
	for len(list) > 0 {
		some := list[:min(8, len(list))]
		list = list[len(some):]
		var inv [8]float32
		for k, scale := range some {
			inv[k] = 1 / scale
		}
		wqs, qqs := kernel.CodeSums(w, h, &inv, lo, hi)
		for k, scale := range some {
			look(scale, wqs[k], qqs[k])
			wq, qq := float64(wqs[k]), float64(qqs[k])
			if g := wq * wq / qq; qq > 0 && (wq > 0) == (scale > 0) && wq != 0 && g > gain {
				gain, optimal = g, wq/qq
			}
		}
	}
	for i := 0; i < 3 && optimal != 0; i++ {
		scale := storedScale(s, optimal)
		if !usable(scale) {
			break
		}
		wqs, qqs := kernel.CodeSums(w, h, &[8]float32{1 / scale}, lo, hi)
		look(scale, wqs[0], qqs[0])
		if optimal = 0; qqs[0] != 0 {
			optimal = float64(wqs[0]) / float64(qqs[0])
		}
	}
	if !s.Signed && found < 0 {
		return plain
	}
	return found
}
