package learn

import (
	"math"

	"github.com/glmconv/glmconv/quant/numeric"
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

// sums are Σhwq and Σhq² of the codes that a scale gives.
func sums(w, h []float32, lo, hi, inv float32) (wq, qq float64) {
	var a, b float32
	h = h[:len(w)]
	for i, v := range w {
		q := min(max(float32(v*inv), lo), hi)
		q = float32(q+magic) - magic
		p := float32(h[i] * q)
		a += float32(p * v)
		b += float32(p * q)
	}
	return float64(a), float64(b)
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
	try := func(scale float32) (next float64) {
		if !usable(scale) {
			return 0
		}
		wq, qq := sums(w, h, lo, hi, 1/scale)
		v := float64(scale)
		if e := float64(ww) - 2*v*wq + v*v*qq; e < best {
			best, found = e, scale
		}
		if qq == 0 {
			return 0
		}
		return wq / qq
	}
	signs := []float64{1}
	if s.Signed {
		signs = []float64{1, -1}
	}
	first, step, n := grid(s.Code)
	gain, optimal := math.Inf(-1), 0.0
	for _, sign := range signs {
		for i := range n {
			scale := storedScale(s, sign*(first-float64(i)*step)*base)
			if !usable(scale) {
				continue
			}
			wq, qq := sums(w, h, lo, hi, 1/scale)
			v := float64(scale)
			if e := float64(ww) - 2*v*wq + v*v*qq; e < best {
				best, found = e, scale
			}
			if g := wq * wq / qq; qq > 0 && wq/qq*sign > 0 && g > gain {
				gain, optimal = g, wq/qq
			}
		}
	}
	for next, i := optimal, 0; i < 3 && next != 0; i++ {
		next = try(storedScale(s, next))
	}
	if !s.Signed && found < 0 {
		return plain
	}
	return found
}
