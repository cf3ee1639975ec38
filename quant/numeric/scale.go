package numeric

// Smallest scales. minNormal keeps reciprocals finite in the best arithmetic;
// it is far below any weight a model holds.
const (
	minNormal   = 0x1p-126
	ascendFloor = 0x1p-23
	deepSeekMin = 1e-4
	epsBF16     = 0x1p-7  // what compressed-tensors stores for a zero BF16 scale
	epsF32      = 0x1p-23 // and for a zero F32 scale
)

// divisor returns half the width of the code range, by which a rule divides
// the largest magnitude.
func (s *Spec) divisor() float32 {
	switch {
	case s.Code == E4M3:
		return E4M3Max
	case s.Code == Int8 && s.Rule == Ascend:
		return 127
	case s.Code == Int8:
		return 127.5
	case s.Rule == Ascend:
		return 7
	}
	return 7.5
}

// blockScale holds the scale of one block as it is stored, and how its weights
// become quotients.
type blockScale struct {
	stored float32
	by     divide
	factor float32
}

// plainScale returns the scale of a block by its rule's absmax formula.
func (s *Spec) plainScale(amax float32) blockScale {
	if s.Rule == DeepSeekBlock {
		a := max(amax, deepSeekMin)
		if s.Arith == Best {
			return s.against(a / E4M3Max)
		}
		return blockScale{a / E4M3Max, byReciprocal, E4M3Max / a}
	}
	v := amax / s.divisor()
	if s.storesBF16() {
		v = RoundBF16(v)
	}
	switch {
	case s.Rule == Ascend:
		v = max(v, ascendFloor)
	case v == 0 && s.storesBF16():
		v = epsBF16
	case v == 0:
		v = epsF32
	}
	if s.Arith == Best {
		v = max(v, minNormal)
	}
	return s.against(v)
}

// against returns the block scale of a chosen stored value.
func (s *Spec) against(stored float32) blockScale {
	switch {
	case s.Arith == Best:
		return blockScale{stored, byReciprocal, 1 / stored}
	case s.SourceF32:
		return blockScale{stored, exactQuotient, stored}
	}
	return blockScale{stored, bf16Quotient, stored}
}

// storesBF16 tells whether scales are rounded to BF16 before the codes are
// computed.
func (s *Spec) storesBF16() bool {
	switch {
	case s.Rule == DeepSeekBlock:
		return false
	case s.Arith == Compat:
		return !s.SourceF32
	case s.Rule == Ascend:
		return s.Code == Int8
	}
	return true
}

// round rounds a searched scale to what the layout stores.
func (s *Spec) round(v float32) float32 {
	if s.storesBF16() {
		return RoundBF16(v)
	}
	return v
}
