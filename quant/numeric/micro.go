package numeric

import (
	"fmt"
	"math"
)

// Groups of 16 or 32 weights with scales of a byte: NVFP4 and the MX formats.

// nvfp4Range is 448·6: what the largest weight under a global scale becomes.
const nvfp4Range = E4M3Max * E2M1Max

// emptyLocal is the local scale that compressed-tensors stores for a group of
// zeros, 0.125 as E4M3.
const emptyLocal = 0x20

// GlobalNVFP4 returns the global scale of NVFP4, a divisor, for weights whose
// largest magnitude is amax: the whole fused set's. Compat repeats
// compressed-tensors on BF16 weights: float32(bf16(2688·bf16(1/amax))). Not
// finite becomes 1. (compressed-tensors 0.19 quantization/utils/helpers.py
// generate_gparam; docs/facts/layouts.md 1.7.)
func GlobalNVFP4(amax float32, a Arith, sourceF32 bool) float32 {
	g := nvfp4Range / amax
	if a == Compat {
		// PyTorch divides a number by a tensor as a reciprocal and a product, each
		// rounded to the tensor's type.
		if g = 1 / amax; !sourceF32 {
			g = RoundBF16(g)
		}
		if g *= nvfp4Range; !sourceF32 {
			g = RoundBF16(g)
		}
	}
	if !(g > 0) || math.IsInf(float64(g), 0) {
		return 1
	}
	return g
}

// TimesNVFP4 returns the global scale of NVFP4 that multiplies, for weights or
// inputs whose largest magnitude is amax: amax/2688, or 1 where that is no
// normal number (ModelOpt 0.47, NVFP4QTensor.get_weights_scaling_factor_2).
func TimesNVFP4(amax float32) float32 {
	if g := amax / nvfp4Range; g >= minNormal && !math.IsInf(float64(g), 0) {
		return g
	}
	return 1
}

// checkMicro refuses what the rules of small groups do not define.
func (s *Spec) checkMicro() bool {
	switch s.Rule {
	case NVFP4:
		return s.Code == E2M1 && s.BlockRows <= 1 && s.BlockCols == 16 && s.Global > 0
	case MX:
		return (s.Code == E2M1 || s.Code == E4M3) && s.BlockRows <= 1 && s.BlockCols == 32
	}
	return false
}

// microRow quantises a row group by group. out are its codes, a byte each.
func (x *Scratch) microRow(r int, scales []float32, st *Stats) (finite bool) {
	m := &x.m
	out := x.row[:m.Cols]
	row := x.take(r*m.Cols, m.Cols)
	codes := m.ScaleCodes[r*len(scales):][:len(scales)]
	var sum runError
	plain := 0.0
	for b := range scales {
		lo, hi := b*m.BlockCols, min((b+1)*m.BlockCols, m.Cols)
		w := row[lo:hi]
		top := absMaxBits(w)
		if top >= infBits {
			return false
		}
		codes[b] = x.spec.LocalCode(math.Float32frombits(top))
		first := encodeMicro(out[lo:hi], w, m.Code, x.spec.LocalScale(codes[b]))
		plain += first.errSq
		if x.spec.Arith == Best && top > 0 {
			first = x.searchMicro(out[lo:hi], w, &codes[b], first)
		}
		scales[b] = x.spec.LocalScale(codes[b])
		sum.add(first)
	}
	if m.Code == E2M1 {
		x.store(r)
	} else {
		copy(m.Codes[r*m.Cols:], out)
	}
	st.addRun(sum, plain)
	return true
}

// LocalCode returns the stored scale of a group, by its rule's formula (MX,
// NVFP4), where amax is the group's largest magnitude.
func (s *Spec) LocalCode(amax float32) byte {
	if s.Rule == MX {
		return s.exponent(amax)
	}
	if s.Times {
		return s.localTimes(amax)
	}
	l := amax / E2M1Max
	if !s.SourceF32 && s.Arith == Compat {
		l = RoundBF16(l)
	}
	q := F32ToE4M3(s.Global * l)
	if q == 0 {
		return emptyLocal
	}
	return q
}

// LocalScale is what a stored scale of a group multiplies codes by (MX, NVFP4).
func (s *Spec) LocalScale(code byte) float32 {
	if s.Rule == MX {
		return E8M0ToF32(code)
	}
	if s.Times {
		return e4m3[code] * s.Global
	}
	return e4m3[code] / s.Global
}

// localTimes is the local scale of a group below a global scale that
// multiplies (ModelOpt 0.47, NVFP4QTensor.get_weights_scaling_factor).
func (s *Spec) localTimes(amax float32) byte {
	if amax == 0 {
		return oneE4M3
	}
	return F32ToE4M3(max(amax/(E2M1Max*s.Global), 0x1p-9))
}

// oneE4M3 is 1 as E4M3.
const oneE4M3 = 0x38

// exponent is the scale of an MX group: the magnitude rounded to a power of
// two, up from a significand of 1.75 on, over the largest power of two of the
// element type (compressed-tensors 0.19 quantization/utils/mxfp_utils.py).
func (s *Spec) exponent(amax float32) byte {
	if s.SourceF32 {
		amax = RoundBF16(amax)
	}
	bits := math.Float32bits(amax)>>16 + 32 // of BF16
	return byte(max(int(bits>>7)-s.below(), 0))
}

// below is the exponent of the largest power of two of the element type.
func (s *Spec) below() int {
	if s.Code == E2M1 {
		return 2 // 1.5·2^2
	}
	return 8 // 1.75·2^8
}

// encodeMicro writes the codes of a group for a scale, a byte each.
func encodeMicro(out []byte, w []float32, c Code, scale float32) (e runError) {
	var sq float32
	for _, v := range w {
		sq += float32(v * v)
	}
	er, worst := errorMicro(out, w, c, scale, float32(math.NaN()))
	return runError{sumSq: float64(sq), errSq: float64(er), maxErr: math.Float32frombits(worst)}
}

// errorMicro is encodeMicro without what does not depend on the scale. Products
// are rounded before they are added, on every processor. It ends early where
// the error has come to limit, which it returns or more; nothing comes to NaN.
func errorMicro(out []byte, w []float32, c Code, scale, limit float32) (er float32, worst uint32) {
	out = out[:len(w)]
	if c == E2M1 {
		for i, v := range w {
			if i&3 == 0 && er >= limit {
				return er, worst
			}
			code := F32ToE2M1(v / scale)
			d := float32(e2m1[code&15]*scale) - v
			out[i] = code
			er += float32(d * d)
			worst = max(worst, math.Float32bits(d)&0x7fffffff)
		}
		return er, worst
	}
	for i, v := range w {
		if i&7 == 0 && er >= limit {
			return er, worst
		}
		code := F32ToE4M3(v / scale)
		d := float32(e4m3[code]*scale) - v
		out[i] = code
		er += float32(d * d)
		worst = max(worst, math.Float32bits(d)&0x7fffffff)
	}
	return er, worst
}

// searchMicro tries the scales beside the formula's and keeps the codes of the
// best: for NVFP4 the E4M3 values from 0.7 to 1.4 of it, for MX the two
// neighbouring exponents.
func (x *Scratch) searchMicro(out []byte, w []float32, code *byte, best runError) runError {
	x.spare = resize(x.spare, len(w))
	start := *code
	lo, hi := int(start)-1, int(start)+1
	if x.spec.Rule == NVFP4 { // eight codes are a factor of two
		lo, hi = int(start)-4, int(start)+4
	}
	for c := lo; c <= hi; c++ {
		if c == int(start) || !x.spec.LegalLocal(c) {
			continue
		}
		er, worst := errorMicro(x.spare, w, x.spec.Code, x.spec.LocalScale(byte(c)), float32(best.errSq))
		if float64(er) < best.errSq {
			best.errSq, best.maxErr, *code = float64(er), math.Float32frombits(worst), byte(c)
			copy(out, x.spare)
		}
	}
	return best
}

// LegalLocal reports whether a code is a scale of a group that engines take:
// positive and finite (MX, NVFP4).
func (s *Spec) LegalLocal(c int) bool {
	if s.Rule == MX {
		return c >= 0 && c < 255
	}
	return c > 0 && c < 0x7f
}

// String names a scale rule in errors.
func (r ScaleRule) String() string {
	names := [...]string{"", "compressed-tensors", "DeepSeek blocks", "Ascend", "MX", "NVFP4"}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("ScaleRule(%d)", uint8(r))
}
