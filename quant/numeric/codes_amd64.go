//go:build !purego

package numeric

import "math"

// takesCodes tells whether absMaxCodes and encodeCodes take n codes. Weights are
// widened a few at a time: rounding them in the registers that they are widened
// in takes longer, since a processor does not look so far ahead.
func takesCodes(n int) bool { return vector && n > 0 && n%blockWidth == 0 }

// absMaxCodes returns the bits of the largest magnitude of codes times scales,
// those of NaN if a code is no number: products with a positive number keep the
// order.
func absMaxCodes(codes []byte, s scaling) (top uint32) {
	var most [64]byte
	for block := 0; len(codes) > 0; {
		n := min(len(codes), len(most)*blockWidth)
		topCodesAVX2(&most[0], &codes[0], n)
		for _, c := range most[:n/blockWidth] {
			top = max(top, math.Float32bits(e4m3[c]*s.of(block)))
			block++
		}
		codes = codes[n:]
	}
	return top
}

// step is how far the scales of blocks lie apart, in bytes.
func (s scaling) step() int {
	if len(s.scales) == 1 {
		return 0
	}
	return 4
}

// decodeVector does the whole blocks of decode, of codes that are numbers, and
// returns how many weights that is.
func (s scaling) decodeVector(dst []float32, codes []byte) (done int) {
	if done = len(dst) &^ (blockWidth - 1); !vector || done == 0 {
		return 0
	}
	_ = codes[done-1]
	widenCodesAVX2(&dst[0], &codes[0], done, &s.scales[0], s.step())
	return done
}

// errorVector is errorBelow by the reciprocal factor of the scale s, where there
// is a kernel.
func errorVector(w []float32, code Code, factor, s float32, limit float64) (float64, bool) {
	if !vector || code != E4M3 || len(w) == 0 || len(w)%lanes != 0 {
		return 0, false
	}
	return errorE4M3F32AVX2(&w[0], len(w), factor, s, limit), true
}

// alikeVector returns how many weights certainly have the same codes by exact
// and by rounded quotients, if there is a kernel.
func alikeVector(w []float32, code Code, s float32) (same int, known bool) {
	if !vector || len(w) == 0 || len(w)%8 != 0 {
		return 0, false
	}
	if code == E4M3 {
		return alikeE4M3AVX2(&w[0], len(w), s, 0, 0), true
	}
	lo, hi := limits(code)
	return alikeIntAVX2(&w[0], len(w), s, lo, hi), true
}
