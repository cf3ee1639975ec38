package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// Weights under scales of small groups.
//
// A processor looks for work only so far ahead: a weight's way from quotient to
// error is thirty cycles long and twelve instructions, so that weights have to
// come step by step beside each other, and the scales of what is next have to be
// on their way before.

// scales are those of eight groups. A weight times inverse, and rest where a
// power of two is not all there is, is what round takes.
type scales struct{ value, inverse, rest reg.VecVirtual }

// kept are scales on the stack.
type kept [3]Mem

func newKept() (k kept) {
	for i := range k {
		k[i] = AllocLocal(32)
	}
	return k
}

// load is what was looked up before.
func (k micro) load(from kept) (s scales) {
	for i, v := range []*reg.VecVirtual{&s.value, &s.inverse, &s.rest} {
		if k.product && i == 2 {
			break
		}
		*v = YMM()
		VMOVUPS(from[i], *v)
	}
	return s
}

// look finds what a table has for eight scale codes, four numbers each: the
// value, its inverse, and the rest of that. places is used meanwhile. Loading and
// turning takes a third of the time of gathering.
func (k micro) look(table reg.Register, codes reg.VecVirtual, places Mem, to kept) {
	at := YMM()
	VPSLLD(Imm(4), codes, at)
	VMOVDQU(at, places)
	var r [4]reg.VecVirtual
	for i := range r {
		r[i] = YMM()
		for j := range 2 {
			place, entry := GP64(), GP64()
			from := places
			from.Disp += 4 * (i + 4*j)
			MOVLQSX(from, place)
			LEAQ(Mem{Base: table, Index: place, Scale: 1}, entry)
			if j == 0 {
				VBROADCASTF128(Mem{Base: entry}, r[i])
			} else {
				VINSERTF128(Imm(1), Mem{Base: entry}, r[i], r[i])
			}
		}
	}
	for i, c := range turnFour(r) {
		if i < 2 || i == 2 && !k.product {
			VMOVUPS(c, to[i])
		}
	}
}

// limits are those of the code, in registers.
func (k micro) limits() limits {
	if k.code == "E4M3" {
		return held(4, 1<<20+19, 1./64, e4m3Max)
	}
	return held(4, 1<<22+3, 1, 0x40c00000) // 6; steps of a half below 2
}

// round rounds magnitudes: a sum has the code in it, as codeOf knows, and value
// is what the code stands for. As in magnitudesE4M3 multiplying and adding is exact
// but for the sum.
//
// A product with the two parts of 1/s rounds to the same code as a division by s,
// though it is not everywhere the same number: TestDivisionByParts tries both
// sides of every boundary between codes for every significand of a scale.
func (k micro) round(x []Mem, s scales, c limits) (sum, value []reg.VecVirtual) {
	for range x {
		sum, value = append(sum, YMM()), append(value, YMM())
	}
	first := s.rest
	if k.product {
		first = s.inverse
	}
	for i := range x {
		VMULPS(x[i], first, sum[i])
	}
	for i := range x {
		if !k.product {
			VFMADD231PS(x[i], s.inverse, sum[i])
		}
	}
	for i := range x {
		VPMINUD(c.most, sum[i], sum[i])
	}
	for i := range x {
		VPAND(c.exponent, sum[i], value[i])
	}
	for i := range x {
		VPMAXUD(c.least, value[i], value[i])
	}
	for i := range x {
		VFMADD231PS(c.up, value[i], sum[i])
	}
	for i := range x {
		VFNMADD132PS(c.up, sum[i], value[i])
	}
	return sum, value
}

// differences turns values into what they differ from weights by.
func differences(value []reg.VecVirtual, x []Mem, s scales) {
	for _, v := range value {
		VMULPS(s.value, v, v)
	}
	for i, v := range value {
		VSUBPS(x[i], v, v)
	}
}

// magnitudes are those of n turned weights from weight first on.
func magnitudes(w reg.Register, first, n int) (x []Mem) {
	for i := range n {
		x = append(x, Mem{Base: w, Disp: turned + 32*(first+i)})
	}
	return x
}

// search is the loop over the scales beside the first, from reach codes below it
// to reach above.
func (k micro) search() {
	reach, lowest, highest := 4, uint32(1), uint32(126) // of E4M3: positive and finite
	if k.product {
		reach, lowest, highest = 1, 0, 254
	}
	emit.Begin("searchMicro"+k.name()+"AVX2", "func(w *float32, size, eights int, codes *int32, table, first, least *float32)",
		"replaces the scale codes of turned groups by those near them with the least squared error, which it writes with that of the first.")
	w, size, codes := Load(Param("w"), GP64()), Load(Param("size"), GP64()), Load(Param("codes"), GP64())
	table, out, n, step, off, left := Load(Param("table"), GP64()), GP64(), GP64(), GP64(), GP64(), Load(Param("eights"), GP64())
	start, now, next, best, least := AllocLocal(32), AllocLocal(32), AllocLocal(32), AllocLocal(32), AllocLocal(32)
	of, c, places := newKept(), k.limits(), AllocLocal(32)
	XORQ(off, off)
	v := YMM()
	VMOVDQU(Mem{Base: codes}, v)
	VMOVDQU(v, next)
	k.look(table, v, places, of)
	Label("eight")
	v = YMM()
	VMOVDQU(next, v)
	VMOVDQU(v, start)
	VMOVDQU(v, best)
	v = YMM()
	VMOVDQU(all(infinite), v)
	VMOVDQU(v, least)
	MOVQ(I32(int32(-reach)), step) // of the scale after the present one
	Label("candidate")
	s := k.load(of)
	v = YMM()
	VMOVDQU(next, v)
	VMOVDQU(v, now)
	k.nextCodes(codes, off, step, left, start, next, reach, lowest, highest)
	v = YMM()
	VMOVDQU(next, v)
	k.look(table, v, places, of)
	er := YMM()
	emit.Zero(er)
	MOVQ(size, n)
	Label("loop")
	k.addErrors(er, w, s, c)
	ADDQ(U32(128), w)
	SUBQ(Imm(4), n)
	JNZ(LabelRef("loop"))
	MOVQ(size, n)
	SHLQ(Imm(5), n)
	SUBQ(n, w)
	CMPQ(step, I8(int8(-reach)))
	JNE(LabelRef("compare"))
	Load(Param("first"), out)
	VMOVUPS(er, Mem{Base: out, Index: off, Scale: 1})
	Label("compare")
	low, code := keepLess(er, now, least, best)
	INCQ(step)
	JNZ(LabelRef("on"))
	INCQ(step) // the first is known
	Label("on")
	CMPQ(step, Imm(uint64(reach+1)))
	JLE(LabelRef("candidate"))
	VMOVUPS(code, Mem{Base: codes, Index: off, Scale: 1})
	Load(Param("least"), out)
	VMOVUPS(low, Mem{Base: out, Index: off, Scale: 1})
	ADDQ(Imm(32), off)
	ADDQ(n, w)
	DECQ(left)
	JNZ(LabelRef("eight"))
	emit.End()
}

// addErrors adds the squared errors of four vectors of weights under scale s.
func (k micro) addErrors(er reg.VecVirtual, w reg.Register, s scales, c limits) {
	x := magnitudes(w, 0, 4)
	_, value := k.round(x, s, c)
	differences(value, x, s)
	for _, v := range value {
		VMULPS(v, v, v)
	}
	for _, v := range value {
		VADDPS(v, er, er)
	}
}

// keepLess writes the lesser of an error and the least so far, and its code.
func keepLess(er reg.VecVirtual, now, least, best Mem) (low, code reg.VecVirtual) {
	less := YMM()
	low, code = YMM(), YMM()
	VMOVUPS(least, low)
	VMOVUPS(best, code)
	VCMPPS(Imm(0x11), low, er, less)
	VBLENDVPS(less, er, low, low)
	VBLENDVPS(less, now, code, code)
	VMOVUPS(low, least)
	VMOVUPS(code, best)
	return low, code
}

// infinite are the bits of the largest error there is.
const infinite = 0x7f800000

// nextCodes puts the codes of the scales after the present ones in next: step
// beside the first, or where that is the end those of the next eight groups.
func (k micro) nextCodes(codes, off reg.Register, step reg.GPVirtual, left reg.Register, start, next Mem, reach int, lowest, highest uint32) {
	v, low := YMM(), XMM()
	CMPQ(step, Imm(uint64(reach)))
	JLE(LabelRef("beside"))
	VMOVDQU(start, v) // any will do after the last
	CMPQ(left, Imm(1))
	JE(LabelRef("known"))
	VMOVDQU(Mem{Base: codes, Index: off, Scale: 1, Disp: 32}, v)
	JMP(LabelRef("known"))
	Label("beside")
	// A code beyond the ends is replaced by the last one, which is tried anyway.
	VMOVD(step.As32(), low)
	VPBROADCASTD(low, v)
	VPADDD(start, v, v)
	VPMAXSD(all(lowest), v, v)
	VPMINSD(all(highest), v, v)
	Label("known")
	VMOVDQU(v, next)
}

// encode writes the codes for given scales. A group's codes gather in words of
// 32 bits, the first at the bottom; the words lie in dst by place and then by
// group until all are there.
func (k micro) encode() {
	emit.Begin("encodeMicro"+k.name()+"AVX2", "func(dst *byte, w *float32, size, eights int, codes *int32, table, er *float32, worst *uint32)",
		"writes the codes of turned groups under the scales that codes stand for, their squared errors and largest ones.")
	dst, w, codes := Load(Param("dst"), GP64()), Load(Param("w"), GP64()), Load(Param("codes"), GP64())
	table, at, n, left := Load(Param("table"), GP64()), GP64(), GP64(), Load(Param("eights"), GP64())
	ers, worsts := Load(Param("er"), GP64()), Load(Param("worst"), GP64())
	of, places := newKept(), AllocLocal(32)
	v := YMM()
	VMOVDQU(Mem{Base: codes}, v)
	k.look(table, v, places, of)
	count := 8 // codes of a word
	if k.code == "E4M3" {
		count = 4
	}
	Label("eight")
	s := k.load(of)
	CMPQ(left, Imm(1))
	JE(LabelRef("last"))
	ADDQ(Imm(32), codes)
	v = YMM()
	VMOVDQU(Mem{Base: codes}, v)
	k.look(table, v, places, of)
	Label("last")
	c := k.limits()
	Load(Param("size"), n)
	MOVQ(dst, at)
	er, worst := YMM(), YMM()
	emit.Zero(er)
	emit.Zero(worst)
	Label("loop")
	word := YMM()
	for i := 0; i < count; i += 2 {
		k.encodeTwo(w, i, count, s, c, er, worst, word)
	}
	VMOVDQU(word, Mem{Base: at})
	ADDQ(Imm(32), at)
	ADDQ(U32(uint32(32*count)), w)
	SUBQ(Imm(uint64(count)), n)
	JNZ(LabelRef("loop"))
	VMOVUPS(er, Mem{Base: ers})
	VPSRLD(Imm(1), worst, worst)
	VMOVUPS(worst, Mem{Base: worsts})
	k.turnBack(dst)
	MOVQ(at, dst)
	ADDQ(Imm(32), ers)
	ADDQ(Imm(32), worsts)
	DECQ(left)
	JNZ(LabelRef("eight"))
	emit.End()
}

// encodeTwo adds the codes of weights i and i+1 to words of count codes.
func (k micro) encodeTwo(w reg.Register, i, count int, s scales, c limits, er, worst, word reg.VecVirtual) {
	x := magnitudes(w, i, 2)
	sum, value := k.round(x, s, c)
	differences(value, x, s)
	for j := range sum {
		k.codeOf(sum[j], Mem{Base: w, Disp: 32 * (i + j)})
		if i+j == 0 {
			VMOVDQA(sum[j], word)
			continue
		}
		VPSRLD(Imm(uint64(32/count)), word, word)
		VPOR(sum[j], word, word)
	}
	for _, d := range value {
		square := YMM()
		VMULPS(d, d, square)
		VADDPS(square, er, er)
		VPADDD(d, d, d) // without the sign
		VPMAXUD(d, worst, worst)
	}
}

// codeOf makes a sum a code with the sign of a weight, in the highest bits of
// lanes. With e the exponent of a sum and n its low bits, a code is 2e+n of E2M1
// and 8e+n of E4M3, less a constant: exponents lie above bits 22 and 20. The even
// number that limits.up adds to n makes it a multiple of 16 and 256.
func (k micro) codeOf(sum reg.VecVirtual, weights Mem) {
	shift, up := uint64(22), uint64(28)
	if k.code == "E4M3" {
		shift, up = 20, 24
	}
	t := YMM()
	VPSRLD(Imm(shift), sum, t)
	VPADDD(t, sum, sum)
	VPSLLD(Imm(up), sum, sum)
	VMOVDQU(weights, t)
	VPAND(all(1<<31), t, t)
	VPOR(t, sum, sum)
}

// turnBack reorders words that lie by place and then by group.
func (k micro) turnBack(dst reg.Register) {
	words := 2
	if k.product {
		words = 4
	}
	if k.code == "E4M3" {
		words = 8
	}
	var v [8]reg.VecVirtual
	for i := range words {
		v[i] = YMM()
		VMOVUPS(Mem{Base: dst, Disp: 32 * i}, v[i])
	}
	switch words {
	case 2: // groups of 16
		low, high, out := YMM(), YMM(), YMM()
		VUNPCKLPS(v[1], v[0], low)  // groups 0, 1 and 4, 5
		VUNPCKHPS(v[1], v[0], high) // 2, 3 and 6, 7
		VPERM2F128(Imm(0x20), high, low, out)
		VMOVUPS(out, Mem{Base: dst})
		VPERM2F128(Imm(0x31), high, low, out)
		VMOVUPS(out, Mem{Base: dst, Disp: 32})
	case 4:
		for i, c := range turnFour([4]reg.VecVirtual(v[:4])) { // groups i and i+4
			VMOVUPS(c.AsX(), Mem{Base: dst, Disp: 16 * i})
			VEXTRACTF128(Imm(1), c, Mem{Base: dst, Disp: 16 * (i + 4)})
		}
	case 8:
		a, b := turnFour([4]reg.VecVirtual(v[:4])), turnFour([4]reg.VecVirtual(v[4:]))
		for i := range a {
			out := YMM()
			VPERM2F128(Imm(0x20), b[i], a[i], out)
			VMOVUPS(out, Mem{Base: dst, Disp: 32 * i})
			VPERM2F128(Imm(0x31), b[i], a[i], out)
			VMOVUPS(out, Mem{Base: dst, Disp: 32 * (i + 4)})
		}
	}
}
