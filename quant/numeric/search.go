package numeric

import "math"

// clipSteps are the divisors that the int4 search tries: scale = absmax/d.
// With d = 8 the largest magnitude falls on code -8 exactly, with 7 on code 7;
// larger divisors clip the tail and spend the codes on the body.
var clipSteps = [...]float32{7, 7.5, 8, 8.5, 9, 9.5, 10}

// searchInt4 returns the stored scale with the smallest squared error for one
// group or channel: the divisors of clipSteps (both signs where the layout
// takes negative scales), then least-squares steps s = Σwq/Σq² from the best
// one while they improve (the idea of SSZ, layouts-ascend.md 3.3 d). plain is
// always among the candidates, so the result is never worse than absmax
// rounding.
func searchInt4(spec Spec, x []float32, plain float32) float32 {
	amax := absMax(x)
	if amax == 0 {
		return plain
	}
	best, bestErr := plain, squaredError4(x, plain)
	try := func(s float32) bool {
		s = storeInt4Scale(spec, s)
		if s == 0 || s == best {
			return false
		}
		if e := squaredError4(x, s); e < bestErr {
			best, bestErr = s, e
			return true
		}
		return false
	}
	for _, d := range clipSteps {
		try(amax / d)
	}
	if spec.Signed {
		for _, d := range clipSteps {
			try(-amax / d)
		}
	}
	for range 4 {
		if s := leastSquares4(x, best); s == 0 || !spec.Signed && s < 0 || !try(s) {
			break
		}
	}
	return best
}

// storeInt4Scale rounds a scale to what the layout stores.
func storeInt4Scale(spec Spec, s float32) float32 {
	if spec.Rule == Ascend {
		return max(s, 0x1p-23)
	}
	return RoundBF16(s)
}

// round4 is the int4 code of w/s as a float.
func round4(t float32) float32 { return roundEven(min(max(t, -8), 7)) }

// squaredError4 is Σ (w − s·q)² over a group with int4 codes.
func squaredError4(x []float32, s float32) float64 {
	var sum float64
	for _, v := range x {
		d := float64(v) - float64(s*round4(v/s))
		sum += d * d
	}
	return sum
}

// leastSquares4 is the scale that fits the codes of scale s best.
func leastSquares4(x []float32, s float32) float32 {
	var wq, qq float64
	for _, v := range x {
		q := float64(round4(v / s))
		wq += float64(v) * q
		qq += q * q
	}
	if qq == 0 {
		return 0
	}
	return float32(wq / qq)
}

// quantizeFP8Scaled chooses group scales that survive vLLM's conversion for
// W4A8-FP8 (engine-vllm.md 5 item 2): a row's scales become e4m3(s/c) times
// c = max(s)/448. The row's largest scale is found by the ordinary search;
// every other group takes the better of the E4M3 multiples of c around its own
// optimum, so that the engine's rounding changes nothing but the last BF16 bit.
func quantizeFP8Scaled(spec Spec, m *Matrix, src []float32, scratch *Scratch) {
	sc := m.ScaleCols()
	for r := range m.Rows {
		row := src[r*m.Cols:][:m.Cols]
		first := len(m.Scales)
		for g := range sc {
			x := row[g*m.BlockCols : min((g+1)*m.BlockCols, m.Cols)]
			m.Scales = append(m.Scales, searchInt4(spec, x, plainScale(spec, absMax(x))))
		}
		scales := m.Scales[first:]
		var hi float32
		for g, s := range scales {
			if x := row[g*m.BlockCols : min((g+1)*m.BlockCols, m.Cols)]; absMax(x) > 0 {
				hi = max(hi, s)
			}
		}
		if hi == 0 {
			hi = scales[0]
		}
		c := hi / E4M3Max
		for g := range scales {
			x := row[g*m.BlockCols : min((g+1)*m.BlockCols, m.Cols)]
			if scales[g] != hi {
				scales[g] = nearestFP8Scale(x, min(scales[g], hi), c)
			}
			encode(spec, x, scales[g], scratch.codes[r*m.Cols+g*m.BlockCols:])
		}
	}
}

// nearestFP8Scale returns the BF16 value of the E4M3 multiple of c, next to
// the wanted scale on either side, that has the smaller squared error.
func nearestFP8Scale(x []float32, want, c float32) float32 {
	code := F32ToE4M3(want / c)
	best, bestErr := float32(0), math.Inf(1)
	for d := -1; d <= 1; d++ {
		k := int(code) + d
		if k < 1 || k > 0x7e {
			continue
		}
		s := RoundBF16(e4m3[k] * c)
		if s == 0 {
			continue
		}
		if e := squaredError4(x, s); e < bestErr {
			best, bestErr = s, e
		}
	}
	return best
}

// VLLMGroupScales returns the scales that vLLM computes with after it has
// converted one row's group scales for its W4A8-FP8 kernels: e4m3(s/c)·c with
// c = max(s)/448.
func VLLMGroupScales(row []float32) []float32 {
	var hi float32
	for _, s := range row {
		hi = max(hi, float32(math.Abs(float64(s))))
	}
	out := make([]float32, len(row))
	if hi == 0 {
		return out
	}
	c := hi / E4M3Max
	for i, s := range row {
		out[i] = e4m3[F32ToE4M3(s/c)] * c
	}
	return out
}
