package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// The twins for formats with scales of small groups take eight groups at a
// time, a group a lane: sums run over a group's weights in their order, as the
// plain loops' do, and what belongs to a group is a vector.

// micro is a kind of such codes: what they are, and how a weight is divided by
// its scale. Powers of two are multiplied with their inverse, which is as exact.
type micro struct {
	code    string
	product bool
}

func (k micro) name() string {
	if k.product {
		return k.code + "Powers"
	}
	return k.code
}

func microTwins() {
	turnGroups()
	for _, round := range []bool{false, true} {
		localScales(round)
		powers(round)
	}
	localScalesTimes()
	for _, k := range []micro{{"E2M1", false}, {"E2M1", true}, {"E4M3", true}} {
		k.search()
		k.encode()
	}
}

// turnGroups puts eight groups side by side.
func turnGroups() {
	emit.Begin("turnGroupsAVX2", "func(dst, w *float32, size int, top *[8]uint32, sq *[8]float32)",
		"writes weight i of group g of eight groups, size weights each, to dst[8*i+g], the groups' largest magnitudes and sums of squares.")
	rows, dst, n := emit.NewRows("w", "size", 8, 4), Load(Param("dst"), GP64()), Load(Param("size"), GP64())
	top, sq := YMM(), YMM()
	emit.Zero(top)
	emit.Zero(sq)
	Label("loop")
	for half := range 2 {
		var r [4]reg.VecVirtual
		for i := range r {
			r[i] = YMM()
			a, b := rows.At(i), rows.At(i+4)
			a.Disp, b.Disp = 16*half, 16*half
			VMOVUPS(a, r[i].AsX())
			VINSERTF128(Imm(1), b, r[i], r[i])
		}
		for i, c := range turnFour(r) {
			VMOVUPS(c, Mem{Base: dst, Disp: 32 * (4*half + i)})
			square := YMM()
			VMULPS(c, c, square)
			VADDPS(square, sq, sq)
			VPAND(all(absMask), c, c)
			VPMAXUD(c, top, top)
		}
	}
	rows.Advance(32)
	ADDQ(U32(256), dst)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("loop"))
	out := Load(Param("top"), GP64())
	VMOVDQU(top, Mem{Base: out})
	Load(Param("sq"), out)
	VMOVUPS(sq, Mem{Base: out})
	emit.End()
}

// turnFour transposes the 4×4 matrices in the halves of four rows.
func turnFour(r [4]reg.VecVirtual) [4]reg.VecVirtual {
	var t, c [4]reg.VecVirtual
	for i := range t {
		t[i], c[i] = YMM(), YMM()
	}
	VUNPCKLPS(r[1], r[0], t[0])
	VUNPCKHPS(r[1], r[0], t[1])
	VUNPCKLPS(r[3], r[2], t[2])
	VUNPCKHPS(r[3], r[2], t[3])
	VUNPCKLPD(t[2], t[0], c[0])
	VUNPCKHPD(t[2], t[0], c[1])
	VUNPCKLPD(t[3], t[1], c[2])
	VUNPCKHPD(t[3], t[1], c[3])
	return c
}

// narrow rounds positive numbers to bfloat16, as roundFinite does.
func narrow(x reg.VecVirtual) {
	odd := YMM()
	VPSRLD(Imm(16), x, odd)
	VPAND(all(1), odd, odd)
	VPADDD(odd, x, x)
	VPADDD(all(0x7fff), x, x)
	VPAND(all(0xffff0000), x, x)
}

// scaleTwin begins a function that makes scale codes of magnitudes.
func scaleTwin(name, param, doc string, round bool) (x reg.VecVirtual) {
	if round {
		name += "BF16"
	}
	emit.Begin(name+"AVX2", "func(codes *[8]int32, top *[8]uint32, "+param+")", doc)
	top := Load(Param("top"), GP64())
	x = YMM()
	VMOVDQU(Mem{Base: top}, x)
	return x
}

// endScales stores the codes; where empty is set they are code instead.
func endScales(codes, empty reg.VecVirtual, code uint32) {
	instead := YMM()
	VMOVDQU(all(code), instead)
	VPBLENDVB(empty, instead, codes, codes)
	at := Load(Param("codes"), GP64())
	VMOVDQU(codes, Mem{Base: at})
	emit.End()
}

// localScales is LocalCode of NVFP4 below a global scale that divides.
func localScales(round bool) {
	x := scaleTwin("localScales", "global float32", "writes the E4M3 scales of groups whose largest magnitudes are top, times global.", round)
	global, zero := emit.Broadcast("global", YMM()), YMM()
	VDIVPS(float(6), x, x)
	if round {
		narrow(x)
	}
	VMULPS(global, x, x)
	codes, _ := roundE4M3(x)
	emit.Zero(zero)
	VPCMPEQD(zero, codes, zero)
	endScales(codes, zero, 0x20)
}

// localScalesTimes is the same below one that multiplies; six is 6·global.
func localScalesTimes() {
	x := scaleTwin("localScalesTimes", "six float32", "writes the E4M3 scales of groups whose largest magnitudes are top, over six.", false)
	six, zero := emit.Broadcast("six", YMM()), YMM()
	emit.Zero(zero)
	VPCMPEQD(zero, x, zero)
	VDIVPS(six, x, x)
	VMAXPS(float(1./512), x, x)
	codes, _ := roundE4M3(x)
	endScales(codes, zero, 0x38)
}

// powers is LocalCode of MX.
func powers(round bool) {
	x := scaleTwin("powers", "offset int", "writes the E8M0 scales of groups whose largest magnitudes are top, offset below their exponents.", round)
	if round {
		narrow(x)
	}
	low, offset, zero := GP64(), XMM(), YMM()
	Load(Param("offset"), low)
	VMOVD(low.As32(), offset)
	down := YMM()
	VPBROADCASTD(offset, down)
	VPSRLD(Imm(16), x, x)
	VPADDD(all(32), x, x)
	VPSRLD(Imm(7), x, x)
	VPSUBD(down, x, x)
	emit.Zero(zero)
	VPMAXSD(zero, x, x)
	at := Load(Param("codes"), GP64())
	VMOVDQU(x, Mem{Base: at})
	emit.End()
}

// scales are those of eight groups.
type scales struct{ value, inverse reg.VecVirtual }

// look finds the values of eight scale codes in a table.
func (k micro) look(table reg.Register, codes reg.VecVirtual) scales {
	s := scales{value: YMM()}
	every := YMM()
	VPCMPEQD(every, every, every)
	VGATHERDPS(every, Mem{Base: table, Index: codes, Scale: 4}, s.value)
	if k.product {
		s.inverse = YMM()
		mirrored := YMM()
		VMOVDQU(all(254), mirrored)
		VPSUBD(codes, mirrored, mirrored)
		VPCMPEQD(every, every, every)
		VGATHERDPS(every, Mem{Base: table, Index: mirrored, Scale: 4}, s.inverse)
	}
	return s
}

// round rounds magnitudes: what the sum's low bits hold is the code, less what
// codeOf knows, and value is what the code stands for. As in magnitudeE4M3
// multiplying and adding is exact but for the sum.
func (k micro) round(x reg.VecVirtual, s scales) (sum, value reg.VecVirtual) {
	most, least, up := uint32(0x40c00000), float32(1), float32(1<<22) // 6; steps of a half below 2
	if k.code == "E4M3" {
		most, least, up = e4m3Max, 1./64, 1<<20
	}
	sum, value = YMM(), YMM()
	if k.product {
		VMULPS(s.inverse, x, sum)
	} else {
		VDIVPS(s.value, x, sum)
	}
	VPMINUD(all(most), sum, sum)
	VPAND(all(0x7f800000), sum, value)
	VPMAXUD(all(math.Float32bits(least)), value, value)
	VFMADD231PS(float(up), value, sum)
	VFNMADD132PS(float(up), sum, value)
	return sum, value
}

// search is the loop over the scales beside the first.
func (k micro) search() {
	reach, lowest, highest := 4, uint32(1), uint32(126) // of E4M3: positive and finite
	if k.product {
		reach, lowest, highest = 1, 0, 254
	}
	emit.Begin("searchMicro"+k.name()+"AVX2", "func(w *float32, size int, codes *[8]int32, table *float32, first, least *[8]float32)",
		"replaces the scale codes of eight turned groups by those near them with the least squared error, which it writes with that of the first.")
	w, size, table := Load(Param("w"), GP64()), Load(Param("size"), GP64()), Load(Param("table"), GP64())
	at, n, step := GP64(), GP64(), GP64()
	start, best, least, now := YMM(), YMM(), YMM(), YMM()
	mask := YMM()
	VMOVUPS(all(absMask), mask)
	Load(Param("codes"), at)
	VMOVDQU(Mem{Base: at}, start)
	VMOVDQA(start, best)
	VMOVDQA(start, now)
	XORQ(step, step)
	Label("candidate")
	s := k.look(table, now)
	er := YMM()
	emit.Zero(er)
	MOVQ(w, at)
	MOVQ(size, n)
	Label("loop")
	for i := range 4 {
		x := YMM()
		VPAND(Mem{Base: at, Disp: 32 * i}, mask, x)
		_, value := k.round(x, s)
		VMULPS(s.value, value, value)
		VSUBPS(x, value, value) // the difference
		VMULPS(value, value, value)
		VADDPS(value, er, er)
	}
	ADDQ(U32(128), at)
	SUBQ(Imm(4), n)
	JNZ(LabelRef("loop"))
	TESTQ(step, step)
	JNZ(LabelRef("compare"))
	Load(Param("first"), at)
	VMOVUPS(er, Mem{Base: at})
	VMOVAPS(er, least)
	MOVQ(I32(int32(-reach)), step)
	JMP(LabelRef("next"))
	Label("compare")
	less := YMM()
	VCMPPS(Imm(0x11), least, er, less)
	VBLENDVPS(less, er, least, least)
	VBLENDVPS(less, now, best, best)
	INCQ(step)
	JNZ(LabelRef("next"))
	INCQ(step) // the first is known
	Label("next")
	// A code beyond the ends is replaced by the last one, which is tried anyway.
	low := XMM()
	VMOVD(step.As32(), low)
	VPBROADCASTD(low, now)
	VPADDD(start, now, now)
	VPMAXSD(all(lowest), now, now)
	VPMINSD(all(highest), now, now)
	CMPQ(step, Imm(uint64(reach)))
	JLE(LabelRef("candidate"))
	Load(Param("codes"), at)
	VMOVDQU(best, Mem{Base: at})
	Load(Param("least"), at)
	VMOVUPS(least, Mem{Base: at})
	emit.End()
}

// encode writes the codes for given scales. A group's codes gather in words of
// 32 bits, the first at the bottom; the words lie in dst by place and then by
// group until all are there.
func (k micro) encode() {
	emit.Begin("encodeMicro"+k.name()+"AVX2", "func(dst *byte, w *float32, size int, codes *[8]int32, table *float32, er *[8]float32, worst *[8]uint32)",
		"writes the codes of eight turned groups under the scales that codes stand for, their squared errors and largest ones.")
	dst, w, n := Load(Param("dst"), GP64()), Load(Param("w"), GP64()), Load(Param("size"), GP64())
	table, at, codes := Load(Param("table"), GP64()), Load(Param("codes"), GP64()), YMM()
	VMOVDQU(Mem{Base: at}, codes)
	s := k.look(table, codes)
	MOVQ(dst, at)
	mask, signs := YMM(), YMM()
	VMOVUPS(all(absMask), mask)
	VMOVUPS(all(1<<31), signs)
	er, worst := YMM(), YMM()
	emit.Zero(er)
	emit.Zero(worst)
	count := 8 // codes of a word
	if k.code == "E4M3" {
		count = 4
	}
	Label("loop")
	word := YMM()
	emit.Zero(word)
	for i := range count {
		x := YMM()
		VPAND(Mem{Base: w, Disp: 32 * i}, mask, x)
		sum, value := k.round(x, s)
		VPSRLD(Imm(uint64(32/count)), word, word)
		VPOR(k.codeOf(sum, signs, Mem{Base: w, Disp: 32 * i}), word, word)
		VMULPS(s.value, value, value)
		VSUBPS(x, value, value) // the difference
		square := YMM()
		VMULPS(value, value, square)
		VADDPS(square, er, er)
		VPAND(mask, value, value)
		VPMAXUD(value, worst, worst)
	}
	VMOVDQU(word, Mem{Base: at})
	ADDQ(Imm(32), at)
	ADDQ(U32(uint32(32*count)), w)
	SUBQ(Imm(uint64(count)), n)
	JNZ(LabelRef("loop"))
	k.turnBack(dst)
	Load(Param("er"), at)
	VMOVUPS(er, Mem{Base: at})
	Load(Param("worst"), at)
	VMOVUPS(worst, Mem{Base: at})
	emit.End()
}

// codeOf returns codes with the signs of weights in the highest bits of lanes.
// With e the exponent of a sum less the one of its first step, and n its low
// bits, a code is 2e+n of E2M1 and 8e+n of E4M3: exponents lie above bits 22
// and 20 of a sum that is shifted down.
func (k micro) codeOf(sum, signs reg.VecVirtual, weights Mem) reg.VecVirtual {
	shift, bias, up := uint64(22), uint32(2*(127+22)), uint64(28)
	if k.code == "E4M3" {
		shift, bias, up = 20, e4m3Bias, 24
	}
	code, sign := YMM(), YMM()
	VPSRLD(Imm(shift), sum, code)
	VPADDD(sum, code, code)
	VPSUBD(all(bias), code, code)
	VPSLLD(Imm(up), code, code)
	VPAND(weights, signs, sign)
	VPOR(sign, code, code)
	return code
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
