//go:build !purego

package numeric

import "unsafe"

// recoding is what becomes of E4M3 codes with a scale of their own under another
// scale. But for powers of two that depends on the three bits of a significand,
// which the first numbers of a table are for, as long as neither code is of a
// subnormal number (internal/asm/convert/recode.go).
type recoding struct {
	weight, cost, scale [8]float32
	step, least         [32]byte
}

func (r *recoding) bytes() *byte { return (*byte)(unsafe.Pointer(r)) }

// recodes are tables for a run of codes under the scale s.
type recodes struct {
	codes     []byte
	tables    []recoding
	factor, s float32
}

// Scales between these leave no number of a table, nor what is left of one by
// cancellation, subnormal or infinite.
const leastRecoded, mostRecoded = 0x1p-24, 0x1p6

// recode makes the tables for codes of which none is more than w.most, by the
// reciprocal factor of the scale s, if there is a kernel. The largest quotient
// must be one that rounds to the largest code, and not beyond it.
func (x *Scratch) recode(w span, code Code, k blockScale) (recodes, bool) {
	if !vector || w.codes == nil || code != E4M3 || k.by != byReciprocal || !recoded(k.stored) || !(w.most*k.factor <= 464) {
		return recodes{}, false
	}
	for _, s := range w.scales {
		if !recoded(s) {
			return recodes{}, false
		}
	}
	x.tables = resize(x.tables, len(w.scales))
	recodeTablesAVX2(x.tables[0].bytes(), &w.scales[0], len(w.scales), k.factor, k.stored)
	return recodes{w.codes, x.tables, k.factor, k.stored}, true
}

func recoded(s float32) bool { return s >= leastRecoded && s <= mostRecoded }

// apart is how far tables of blocks lie apart, in bytes.
func (r *recodes) apart() int {
	if len(r.tables) == 1 {
		return 0
	}
	return int(unsafe.Sizeof(recoding{}))
}

// encode is encode of the weights that codes stand for.
func (r *recodes) encode(dst []byte) (sum runError) {
	_ = dst[len(r.codes)-1]
	recodeE4M3AVX2(&dst[0], &r.codes[0], len(r.codes), r.tables[0].bytes(), r.apart(), r.factor, r.s, &sum.sumSq)
	return sum
}

// errorBelow is errorBelow of the weights that codes stand for.
func (r *recodes) errorBelow(limit float64) float64 {
	return recodeErrorAVX2(&r.codes[0], len(r.codes), r.tables[0].bytes(), r.apart(), r.factor, r.s, limit)
}
