package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The AVX-512 twins: sixteen elements are one vector.

var wideConstants = map[uint32]Mem{}

// all16 is a constant in all sixteen lanes.
func all16(bits uint32) Mem {
	if m, ok := wideConstants[bits]; ok {
		return m
	}
	m := GLOBL(fmt.Sprintf("wide%08x", bits), RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(bits))
	}
	wideConstants[bits] = m
	return m
}

// hold is a constant kept in a register.
func hold(bits uint32) reg.VecVirtual {
	v := ZMM()
	VMOVUPS(all16(bits), v)
	return v
}

func broadcast16(name string) reg.VecVirtual {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v := ZMM()
	VBROADCASTSS(p.Addr, v)
	return v
}

// encodeWide is encode with the reciprocal of the scale.
func encodeWide(code string) {
	begin("encode"+code+"ReciprocalAVX512", "func(dst *byte, w *float32, n int, factor, s, lo, hi float32, out *[40]float32)",
		"rounds n weights to codes and adds what that costs to out.")
	dst, w, n := Load(Param("dst"), GP64()), Load(Param("w"), GP64()), Load(Param("n"), GP64())
	factor, s := broadcast16("factor"), broadcast16("s")
	var round func(t reg.VecVirtual) (code, value reg.VecVirtual)
	if code == "Int" {
		lo, hi := broadcast16("lo"), broadcast16("hi")
		round = func(t reg.VecVirtual) (code, value reg.VecVirtual) {
			VMAXPS(lo, t, t)
			VMINPS(hi, t, t)
			code, value = ZMM(), ZMM()
			VCVTPS2DQ(t, code)
			VCVTDQ2PS(code, value)
			return code, value
		}
	} else {
		round = wideE4M3()
	}
	mask := hold(absMask)
	out := Load(Param("out"), GP64())
	sq, er, worst := ZMM(), ZMM(), ZMM()
	VMOVUPS(Mem{Base: out}, sq)
	VMOVUPS(Mem{Base: out, Disp: 64}, er)
	VMOVDQU(Mem{Base: out, Disp: 128}, worst.AsY()) // the upper half is cleared
	Label("loop")
	x, t, square := ZMM(), ZMM(), ZMM()
	VMOVUPS(Mem{Base: w}, x)
	VMULPS(factor, x, t)
	codes, deq := round(t)
	VPMOVDB(codes, Mem{Base: dst})
	VMULPS(s, deq, deq)
	VSUBPS(x, deq, deq) // the difference
	VMULPS(x, x, x)
	VADDPS(x, sq, sq)
	VMULPS(deq, deq, square)
	VADDPS(square, er, er)
	VPANDD(mask, deq, deq)
	VPMAXUD(deq, worst, worst)
	ADDQ(Imm(64), w)
	ADDQ(Imm(16), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	VMOVUPS(sq, Mem{Base: out})
	VMOVUPS(er, Mem{Base: out, Disp: 64})
	half := YMM()
	VEXTRACTI64X4(Imm(1), worst, half)
	VPMAXUD(half, worst.AsY(), half)
	VMOVDQU(half, Mem{Base: out, Disp: 128})
	VZEROUPPER()
	RET()
}

// wideE4M3 is roundE4M3 with its constants in registers.
func wideE4M3() func(t reg.VecVirtual) (code, value reg.VecVirtual) {
	mask, top, small := hold(absMask), hold(0x43e00000), hold(0x3c800000) // 448, 2^-6
	magic, one, half, bias, keep := hold(math.Float32bits(1<<14)), hold(1), hold(0x7ffff), hold((127-7)<<3), hold(0xfff00000)
	return func(t reg.VecVirtual) (code, value reg.VecVirtual) {
		sign, low := ZMM(), ZMM()
		below := K()
		VPANDND(t, mask, sign)
		VPANDD(mask, t, t)
		VPMINUD(top, t, t)
		VPCMPUD(Imm(1), small, t, below) // t < 2^-6
		VADDPS(magic, t, low)            // 2^14 has steps of 2^-9
		// The others: round bit 20, half to even.
		code, value = ZMM(), ZMM()
		VPSRLD(Imm(20), t, value)
		VPANDD(one, value, value)
		VPADDD(half, t, t)
		VPADDD(value, t, t)
		VPSRLD(Imm(20), t, code)
		VPSUBD(bias, code, code)
		VPANDD(keep, t, value)
		VPSUBD(magic, low, below, code)
		VSUBPS(magic, low, below, value)
		VPORD(sign, value, value)
		VPSRLD(Imm(24), sign, sign)
		VPORD(sign, code, code)
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
	begin(name, "func(w *float32, n int, r *float32, k int, out *float32)",
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
		if wide {
			VPXORD(a, a, a)
			VPXORD(b, b, b)
		} else {
			VPXOR(a, a, a)
			VPXOR(b, b, b)
		}
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
	VZEROUPPER()
	RET()
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
	VEXTRACTF128(Imm(1), y, half)
	VADDPS(half, y.AsX(), x)
	for _, order := range []uint64{0x4e, 0xb1} {
		s := XMM()
		VPSHUFD(Imm(order), x, s)
		VADDPS(s, x, x)
	}
	return x
}

// indexAbs finds a magnitude.
func indexAbs() {
	begin("indexAbsAVX2", "func(w *float32, n int, bits uint32) int",
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
