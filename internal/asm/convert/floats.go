package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// dequantE4M3 widens codes. As half precision a code with its bits moved up is
// 2^-8 of what it stands for, subnormal numbers too.
func dequantE4M3() {
	emit.Begin("dequantE4M3AVX2", "func(dst *float32, src *byte, n int, s float32) int",
		"widens n E4M3 codes times s/256 and returns how many: it ends before sixteen of which one is no number.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	s, keep, magnitude, nan := emit.Broadcast("s", YMM()), YMM(), XMM(), XMM()
	VMOVDQU(all(0xbfffbfff), keep)
	VMOVDQU(all(0x7f7f7f7f), nan)
	left, hits := GP64(), GP32()
	MOVQ(n, left)
	Label("loop")
	codes := XMM()
	VMOVDQU(Mem{Base: src}, codes)
	VPAND(nan, codes, magnitude)
	VPCMPEQB(nan, magnitude, magnitude)
	VPMOVMSKB(magnitude, hits)
	TESTL(hits, hits)
	JNZ(LabelRef("done"))
	words := YMM()
	VPMOVSXBW(codes, words)
	VPSLLW(Imm(7), words, words)
	VPAND(keep, words, words)
	upper := XMM()
	VEXTRACTI128(Imm(1), words, upper)
	for i, half := range []reg.VecVirtual{words, upper} {
		v := YMM()
		VCVTPH2PS(half.AsX(), v)
		VMULPS(s, v, v)
		VMOVUPS(v, Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(Imm(16), src)
	ADDQ(Imm(64), dst)
	SUBQ(Imm(16), left)
	JNZ(LabelRef("loop"))
	Label("done")
	SUBQ(left, n)
	VZEROUPPER()
	Store(n, ReturnIndex(0))
	RET()
}

// narrowBF16 rounds to bfloat16.
func narrowBF16() {
	emit.Begin("narrowBF16AVX2", "func(dst *byte, src *float32, n int) int",
		"rounds n numbers to bfloat16 and returns how many: it ends before sixteen of which one is no number.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	left, hits := GP64(), GP32()
	one, half := YMM(), YMM()
	VMOVDQU(all(1), one)
	VMOVDQU(all(0x7fff), half)
	MOVQ(n, left)
	Label("loop")
	var v [2]reg.VecVirtual
	for i := range v {
		v[i] = YMM()
		VMOVUPS(Mem{Base: src, Disp: 32 * i}, v[i])
	}
	no := YMM()
	VCMPPS(Imm(3), v[1], v[0], no) // unordered
	VMOVMSKPS(no, hits)
	TESTL(hits, hits)
	JNZ(LabelRef("done"))
	for i := range v {
		odd := YMM()
		VPSRLD(Imm(16), v[i], odd)
		VPAND(one, odd, odd)
		VPADDD(odd, v[i], v[i])
		VPADDD(half, v[i], v[i])
		VPSRLD(Imm(16), v[i], v[i])
	}
	VPACKUSDW(v[1], v[0], v[0])
	VPERMQ(Imm(0xd8), v[0], v[0]) // words in order
	VMOVDQU(v[0], Mem{Base: dst})
	ADDQ(Imm(64), src)
	ADDQ(Imm(32), dst)
	SUBQ(Imm(16), left)
	JNZ(LabelRef("loop"))
	Label("done")
	SUBQ(left, n)
	VZEROUPPER()
	Store(n, ReturnIndex(0))
	RET()
}

// floatStep rounds sixteen float32 weights, as narrowStep does thirty-two of
// bfloat16: a vector of eight after the other.
func (r run) floatStep() func(l *loop) {
	signed := r.code == "Int"
	var lo, hi reg.VecVirtual
	if signed {
		lo, hi = emit.Broadcast("lo", YMM()), emit.Broadcast("hi", YMM())
	}
	return func(l *loop) {
		x := [2]reg.VecVirtual{YMM(), YMM()}
		for j, v := range x {
			VMOVUPS(Mem{Base: l.w, Disp: 32 * j}, v)
			if !signed {
				VPAND(all(absMask), v, v)
			}
		}
		pack := l.pair(x, lo, hi)
		if !signed {
			first, signs := YMM(), YMM()
			VMOVDQU(Mem{Base: l.w}, first)
			VPACKSSDW(Mem{Base: l.w, Disp: 32}, first, signs) // saturation keeps the sign
			VPSRLW(Imm(8), signs, signs)
			VPAND(all(0x00800080), signs, signs)
			VPOR(signs, pack, pack)
		}
		VPERMQ(Imm(0xd8), pack, pack) // words in order
		upper := XMM()
		VEXTRACTI128(Imm(1), pack, upper)
		if signed {
			VPACKSSWB(upper, pack.AsX(), upper)
		} else {
			VPACKUSWB(upper, pack.AsX(), upper)
		}
		VMOVDQU(upper, Mem{Base: l.dst})
	}
}

// dequantE2M1 widens groups of codes. A code's sign and magnitude, moved up, are
// the upper byte of a half precision number of 2^-14 times its value.
func dequantE2M1() {
	emit.Begin("dequantE2M1AVX2", "func(dst *float32, src *byte, groups, size int, scales *float32)",
		"widens groups of size E2M1 codes, a multiple of sixteen, times their scales.")
	dst, src, groups := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("groups"), GP64())
	size, scales, left := Load(Param("size"), GP64()), Load(Param("scales"), GP64()), GP64()
	table := GLOBL("upperE2M1", RODATA|NOPTR)
	for c := range 16 {
		DATA(c, U8(uint8(c>>3<<7|c&7<<1)))
	}
	upper, low, zero, up := XMM(), XMM(), XMM(), YMM()
	VMOVDQU(table, upper)
	VMOVDQU(all(0x0f0f0f0f), low)
	emit.Zero(zero)
	VMOVUPS(float(1<<14), up)
	Label("group")
	s := YMM()
	VBROADCASTSS(Mem{Base: scales}, s)
	MOVQ(size, left)
	Label("loop")
	a, b := XMM(), XMM()
	VMOVQ(Mem{Base: src}, a)
	VPSRLW(Imm(4), a, b)
	VPUNPCKLBW(b, a, a)
	VPAND(low, a, a)
	VPSHUFB(a, upper, a)
	VPUNPCKHBW(a, zero, b)
	VPUNPCKLBW(a, zero, a)
	for i, half := range []reg.VecVirtual{a, b} {
		v := YMM()
		VCVTPH2PS(half, v)
		VMULPS(up, v, v)
		VMULPS(s, v, v)
		VMOVUPS(v, Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(Imm(8), src)
	ADDQ(Imm(64), dst)
	SUBQ(Imm(16), left)
	JNZ(LabelRef("loop"))
	ADDQ(Imm(4), scales)
	DECQ(groups)
	JNZ(LabelRef("group"))
	emit.End()
}
