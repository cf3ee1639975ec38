package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// The AVX-512 twins: sixteen elements are one vector.

// hold is a constant kept in a register.
func hold(bits uint32) reg.VecVirtual {
	v := ZMM()
	VMOVUPS(emit.Lanes(bits, 16), v)
	return v
}

// wideStep rounds sixteen weights.
func (r run) wideStep() func(l *loop) {
	var round func(t reg.VecVirtual) (code, value reg.VecVirtual)
	if r.code == "Int" {
		lo, hi := emit.Broadcast("lo", ZMM()), emit.Broadcast("hi", ZMM())
		round = func(t reg.VecVirtual) (code, value reg.VecVirtual) {
			VMAXPS(lo, t, t)
			VMINPS(hi, t, t)
			return nearest(t)
		}
	} else {
		round = wideE4M3()
	}
	mask := hold(absMask)
	return func(l *loop) {
		x, t, square := ZMM(), ZMM(), ZMM()
		if r.dtype == "F32" {
			VMOVUPS(Mem{Base: l.w}, x)
		} else {
			VPMOVZXWD(Mem{Base: l.w}, x)
			VPSLLD(Imm(16), x, x)
		}
		VMULPS(l.factor, x, t)
		codes, deq := round(t)
		VPMOVDB(codes, Mem{Base: l.dst})
		VMULPS(l.s, deq, deq)
		VSUBPS(x, deq, deq) // the difference
		VMULPS(x, x, x)
		VADDPS(x, l.sq[0], l.sq[0])
		VMULPS(deq, deq, square)
		VADDPS(square, l.er[0], l.er[0])
		VPANDD(mask, deq, deq)
		VPMAXUD(deq, l.worst, l.worst)
	}
}

// absMaxWide is absMaxBits of bfloat16 weights, thirty-two at a time.
func absMaxWide() {
	emit.Begin("absMaxBF16AVX512", "func(w *byte, n int) uint32", "returns the bits of the largest magnitude of n bfloat16 weights, a multiple of thirty-two.")
	w, n := Load(Param("w"), GP64()), Load(Param("n"), GP64())
	top, mask := ZMM(), hold(0x7fff7fff)
	emit.Zero(top)
	Label("loop")
	t := ZMM()
	VPANDD(Mem{Base: w}, mask, t)
	VPMAXUW(t, top, top)
	ADDQ(Imm(64), w)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("loop"))
	y := YMM()
	VEXTRACTI64X4(Imm(1), top, y)
	VPMAXUW(y, top.AsY(), y)
	returnMaxWord(y, true)
}

// wideE4M3 is roundE4M3 with its constants in registers.
func wideE4M3() func(t reg.VecVirtual) (code, value reg.VecVirtual) {
	sign, mask, top, exponent := hold(1<<31), hold(absMask), hold(e4m3Max), hold(0x7f800000)
	up, least, bias, signCode := hold(20<<23), hold(math.Float32bits(1<<14)), hold(e4m3Bias), hold(0x80)
	return func(t reg.VecVirtual) (code, value reg.VecVirtual) {
		a, m, signs := ZMM(), ZMM(), ZMM()
		VPANDD(mask, t, a)
		VPMINUD(top, a, a)
		VPANDD(exponent, a, m)
		VPADDD(up, m, m)
		VPMAXUD(least, m, m)
		VADDPS(m, a, a)
		code, value = ZMM(), ZMM()
		VSUBPS(m, a, value)
		VPSUBD(m, a, code)
		VPSRLD(Imm(20), m, m)
		VPADDD(m, code, code)
		VPSUBD(bias, code, code)
		VPSRLD(Imm(24), t, signs)
		VPTERNLOGD(Imm(0xf8), signCode, signs, code) // code | signs&0x80
		VPTERNLOGD(Imm(0xf8), sign, t, value)
		return code, value
	}
}

// correlateMany is correlate for k reciprocals over one chunk.
func correlateMany(wide bool) {
	name, vec, parts := "correlateManyAVX2", YMM, 2
	if wide {
		name, vec, parts = "correlateManyAVX512", ZMM, 1
	}
	constant := func(bits uint32) reg.VecVirtual {
		if wide {
			return hold(bits)
		}
		v := YMM()
		VMOVUPS(all(bits), v)
		return v
	}
	emit.Begin(name, "func(w *float32, n int, r *float32, k int, out *float32)",
		"writes Σ w·q and Σ q² of a chunk of n weights, q rounded to int4 by each of the k reciprocals at r.")
	w, n := Load(Param("w"), GP64()), Load(Param("n"), GP64())
	r, k := Load(Param("r"), GP64()), Load(Param("k"), GP64())
	out := Load(Param("out"), GP64())
	lo, hi, magic := constant(math.Float32bits(-8)), constant(math.Float32bits(7)), constant(rounder)
	Label("candidate")
	factor := vec()
	VBROADCASTSS(Mem{Base: r}, factor)
	var sum, squares []reg.VecVirtual
	for range parts {
		a, b := vec(), vec()
		emit.Zero(a)
		emit.Zero(b)
		sum, squares = append(sum, a), append(squares, b)
	}
	at, left := GP64(), GP64()
	MOVQ(w, at)
	MOVQ(n, left)
	Label("loop")
	for i := range parts {
		x, t := vec(), vec()
		VMOVUPS(Mem{Base: at, Disp: 32 * i}, x)
		VMULPS(factor, x, t)
		VMAXPS(lo, t, t)
		VMINPS(hi, t, t)
		VADDPS(magic, t, t)
		VSUBPS(magic, t, t)
		VFMADD231PS(t, t, squares[i]) // small integers: exact in any order
		VMULPS(x, t, t)
		VADDPS(t, sum[i], sum[i])
	}
	ADDQ(Imm(64), at)
	SUBQ(Imm(16), left)
	JNZ(LabelRef("loop"))
	for i, lanes := range [][]reg.VecVirtual{sum, squares} {
		x := fold(lanes)
		VMOVSS(x, Mem{Base: out, Disp: 4 * i})
	}
	ADDQ(Imm(4), r)
	ADDQ(Imm(8), out)
	DECQ(k)
	JNZ(LabelRef("candidate"))
	emit.End()
}

// fold adds sixteen lanes as laneSum.fold does: j and j+8, +4, +2, +1.
func fold(lanes []reg.VecVirtual) reg.VecVirtual {
	y := YMM()
	if len(lanes) == 1 {
		VEXTRACTF64X4(Imm(1), lanes[0], y)
		VADDPS(lanes[0].AsY(), y, y)
	} else {
		VADDPS(lanes[1], lanes[0], y)
	}
	half, x := XMM(), XMM()
	if len(lanes) == 1 {
		VEXTRACTF32X4(Imm(1), y, half) // any of 32 registers
	} else {
		VEXTRACTF128(Imm(1), y, half)
	}
	VADDPS(half, y.AsX(), x)
	return foldFour(x)
}

// foldFour adds four lanes: j and j+2, +1.
func foldFour(x reg.VecVirtual) reg.VecVirtual {
	for _, order := range []uint64{0x4e, 0xb1} {
		s := XMM()
		VPSHUFD(Imm(order), x, s)
		VADDPS(s, x, x)
	}
	return x
}

// indexAbs finds a magnitude.
func indexAbs() {
	emit.Begin("indexAbsAVX2", "func(w *float32, n int, bits uint32) int",
		"returns the first of n weights, a multiple of eight, whose magnitude has these bits, or n.")
	w, n := Load(Param("w"), GP64()), Load(Param("n"), GP64())
	bits, low := Load(Param("bits"), GP32()), XMM()
	VMOVD(bits, low)
	want, mask := YMM(), YMM()
	VPBROADCASTD(low, want)
	VMOVUPS(all(absMask), mask)
	at, hits := GP64(), GP32()
	XORQ(at, at)
	Label("loop")
	t := YMM()
	VPAND(Mem{Base: w, Index: at, Scale: 4}, mask, t)
	VPCMPEQD(want, t, t)
	VMOVMSKPS(t, hits)
	TESTL(hits, hits)
	JNZ(LabelRef("found"))
	ADDQ(Imm(8), at)
	CMPQ(at, n)
	JLT(LabelRef("loop"))
	VZEROUPPER()
	Store(n, ReturnIndex(0))
	RET()
	Label("found")
	TZCNTL(hits, hits)
	ADDQ(hits.As64(), at)
	VZEROUPPER()
	Store(at, ReturnIndex(0))
	RET()
}
