package numeric

import "math"

// sszSteps is msmodelslim's default number of refinements.
const sszSteps = 50

// ssz is msmodelslim's int4 channel quantiser (quantizer/impl/ssz.py) in its
// own BF16 arithmetic: from absmax/7, repeat codes ← round(w/s),
// s ← Σwq/Σq², and keep per channel the scale with the lowest mean squared
// error, until no channel of the whole weight improves by more than 1e-10.
// The stopping rule looks at all channels, so src must hold the whole weight.
func ssz(m *Matrix, src []float32, codes []byte) {
	n, k := m.Rows, m.Cols
	scale, best := make([]float32, n), make([]float32, n)
	mse := make([]float32, n)
	round := func(r int, s float32, q []byte) float32 {
		var sum float64
		for i, v := range src[r*k:][:k] {
			c := round4(RoundBF16(v / s))
			if c != c {
				c = 0 // 0/0: a zero weight under a zero scale
			}
			q[r*k+i] = byte(int8(c))
			d := v - RoundBF16(c*s) // the error is taken in F32
			sum += float64(d * d)
		}
		return float32(sum / float64(k))
	}
	for r := range n {
		best[r] = RoundBF16(max(RoundBF16(absMax(src[r*k:][:k])/7), 0x1p-23))
		mse[r] = round(r, best[r], codes)
	}
	trial := append([]byte(nil), codes...)
	now := make([]float32, n)
	for range sszSteps {
		moving := false
		for r := range n {
			row, q := src[r*k:][:k], trial[r*k:][:k]
			var wq, qq float64
			for i, v := range row {
				c := float32(int8(q[i]))
				wq += float64(RoundBF16(v * c))
				qq += float64(c * c)
			}
			scale[r] = RoundBF16(RoundBF16(float32(wq)) / max(RoundBF16(float32(qq)), 1e-30))
			now[r] = round(r, scale[r], trial)
			gain := float64(mse[r]) - float64(now[r])
			if gain/max(float64(mse[r]), 1e-4) >= 1e-10 && math.Abs(gain) >= 1e-10 {
				moving = true
			}
		}
		if !moving {
			break
		}
		for r := range n {
			if now[r] < mse[r] {
				mse[r], best[r] = now[r], scale[r]
				copy(codes[r*k:][:k], trial[r*k:][:k])
			}
		}
	}
	m.Scales = append(m.Scales, best...)
	for r := range n { // the codes of the kept scale
		round(r, best[r], codes)
	}
}
