package learn

import (
	"math"

	"github.com/glmconv/glmconv/quant/numeric"
)

// Groups with scales of a byte (MX, NVFP4): a scale is one of a few, and the best
// of them is found by trying.

// micro reports whether the scales of a weight are of a byte.
func micro(s *numeric.Spec) bool { return s.Rule == numeric.MX || s.Rule == numeric.NVFP4 }

// searchLocal returns the stored scale of a group with the smallest Σh(Q(w) − w)²
// among those near the one of the rule: from half of it to 1.7 times it for NVFP4
// (eight values of E4M3 are a factor of two), two exponents below and one above for
// MX. The first of equals stays, the rule's first of all.
func searchLocal(s *numeric.Spec, w, h []float32) byte {
	found := s.LocalCode(numeric.AbsMax(w))
	first, below, above := int(found), 8, 6
	if s.Rule == numeric.MX {
		below, above = 2, 1
	}
	least := localError(s, w, h, found, float32(math.Inf(1)))
	for c := first - below; c <= first+above; c++ {
		if c == first || !s.LegalLocal(c) {
			continue
		}
		if e := localError(s, w, h, byte(c), least); e < least {
			least, found = e, byte(c)
		}
	}
	return found
}

// localError is Σh(Q(w) − w)² under a stored scale; it ends early at limit.
func localError(s *numeric.Spec, w, h []float32, code byte, limit float32) (e float32) {
	scale := s.LocalScale(code)
	h = h[:len(w)]
	for i, v := range w {
		if i&3 == 0 && e >= limit {
			return e
		}
		d := float32(nearest(s.Code, v/scale)*scale) - v
		e += float32(h[i] * float32(d*d))
	}
	return e
}

// nearest is the value of the floating-point code nearest to q.
func nearest(c numeric.Code, q float32) float32 {
	if c == numeric.E2M1 {
		return numeric.E2M1ToF32(numeric.F32ToE2M1(q))
	}
	return numeric.E4M3ToF32(numeric.F32ToE4M3(q))
}

// nearestLocal returns the stored scale nearest to v, not further than a factor
// of two from one that is given; that one where v is no scale.
func nearestLocal(s *numeric.Spec, v float64, from byte) byte {
	if !(v > 0) {
		return from
	}
	best, least := from, math.Abs(v-float64(s.LocalScale(from)))
	for c := int(from) - 8; c <= int(from)+8; c++ {
		if !s.LegalLocal(c) {
			continue
		}
		if d := math.Abs(v - float64(s.LocalScale(byte(c)))); d < least {
			best, least = byte(c), d
		}
	}
	return best
}

// weightedLocal chooses the scales of a row and writes its codes, a byte each.
func weightedLocal(s *numeric.Spec, m *numeric.Matrix, r int, w, h []float32, codes []byte) {
	groups := m.ScaleCols()
	for g := range groups {
		from, to := g*m.BlockCols, min((g+1)*m.BlockCols, m.Cols)
		local := searchLocal(s, w[from:to], h[from:to])
		scale := s.LocalScale(local)
		m.ScaleCodes[r*groups+g], m.Scales[r*groups+g] = local, scale
		for i, v := range w[from:to] {
			codes[from+i] = encode(s.Code, v/scale)
		}
	}
}

// encode returns the code of a number.
func encode(c numeric.Code, q float32) byte {
	switch c {
	case numeric.E2M1:
		return numeric.F32ToE2M1(q)
	case numeric.E4M3:
		return numeric.F32ToE4M3(q)
	}
	return byte(int8(q))
}
