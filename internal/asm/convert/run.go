package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// run is a twin of encode with the reciprocal of the scale that takes all chunks
// at once. Blocks are 128 columns of an even number of rows, two rows a chunk, as
// if they were packed.
type run struct {
	isa, code, dtype string
	block            bool
}

// loop is what a step finds in registers. With AVX-512 the sixteen lanes of a
// sum are one vector, with AVX2 two, in the order of narrowStep.
type loop struct {
	dst, w        reg.Register
	factor, s     reg.VecVirtual
	sq, er        []reg.VecVirtual
	worst         reg.VecVirtual
	squares       bool // the worst is the square of the largest error
	wide          bool
	width, weight int // weights of a step; bytes of one
	limits        limits
}

func (r run) emit() {
	l := &loop{wide: r.isa == "AVX512", width: 32, weight: 2}
	if r.dtype == "F32" {
		l.width, l.weight = 16, 4
	}
	if l.wide {
		l.width = 16
	}
	skipCodes, skipWeights := r.begin(l)
	n := GP64()
	l.dst, l.w = Load(Param("dst"), GP64()), Load(Param("w"), GP64())
	Load(Param("n"), n)
	vec, sums, step := YMM, 2, r.narrowStep
	if r.dtype == "F32" {
		step = r.floatStep
	}
	if l.wide {
		vec, sums, step = ZMM, 1, r.wideStep
	}
	l.factor, l.s, l.worst = emit.Broadcast("factor", vec()), emit.Broadcast("s", vec()), vec()
	one := step()
	if !l.wide && r.code == "E4M3" {
		l.limits = heldE4M3(map[string]int{"F32": 3, "BF16": 1}[r.dtype])
	}
	for range sums {
		l.sq, l.er = append(l.sq, vec()), append(l.er, vec())
	}
	out := Load(Param("out"), GP64())
	emit.Zero(l.worst)
	left := GP64()
	Label("chunk")
	MOVQ(U32(256), left)
	CMPQ(n, left)
	CMOVQLT(n, left)
	SUBQ(left, n)
	for i := range sums {
		emit.Zero(l.sq[i])
		emit.Zero(l.er[i])
	}
	Label("loop")
	one(l)
	ADDQ(U32(uint32(l.width*l.weight)), l.w)
	ADDQ(Imm(uint64(l.width)), l.dst)
	SUBQ(Imm(uint64(l.width)), left)
	if r.block {
		TESTQ(U32(127), left)
		JNZ(LabelRef("loop"))
		ADDQ(skipCodes, l.dst) // to the next row
		ADDQ(skipWeights, l.w)
		TESTQ(left, left)
	}
	JNZ(LabelRef("loop"))
	r.addSums(l, out)
	TESTQ(n, n)
	JNZ(LabelRef("chunk"))
	y := l.worst
	if l.wide {
		y = YMM()
		VEXTRACTI64X4(Imm(1), l.worst, y)
		VPMAXUD(y, l.worst.AsY(), y)
	}
	storeMax(y, Mem{Base: out, Disp: 16}, l.wide)
	emit.End()
}

// begin writes the head of the kernel; of one for blocks it returns how far it
// is from the end of a row to the next, in bytes of codes and of weights.
func (r run) begin(l *loop) (skipCodes, skipWeights reg.Register) {
	if r.block {
		emit.Begin("encode"+r.code+r.dtype+"Block"+r.isa, "func(dst *byte, w *byte, n, cols int, factor, s, lo, hi float32, out *float64)",
			"rounds the n weights of a block, 128 columns of n/128 rows of cols, and adds what that costs to the runError at out.")
		skipCodes, skipWeights = Load(Param("cols"), GP64()), GP64()
		SUBQ(U32(128), skipCodes)
		MOVQ(skipCodes, skipWeights)
		SHLQ(Imm(uint64(l.weight/2)), skipWeights) // two or four bytes
	} else {
		count := map[int]string{16: "sixteen", 32: "thirty-two"}[l.width]
		emit.Begin("encode"+r.code+r.dtype+r.isa, "func(dst *byte, w *byte, n int, factor, s, lo, hi float32, out *float64)",
			"rounds n weights, a multiple of "+count+", to codes and adds what that costs to the runError at out.")
	}
	return skipCodes, skipWeights
}

// addSums adds the sums of a chunk, squares and errors, to those at out.
func (r run) addSums(l *loop, out reg.Register) {
	for i, v := range [][]reg.VecVirtual{l.sq, l.er} {
		var x reg.VecVirtual
		if l.wide || r.dtype == "F32" {
			x = fold(v)
		} else {
			x = foldNarrow(v)
		}
		VCVTSS2SD(x, x, x)
		VADDSD(Mem{Base: out, Disp: 8 * i}, x, x)
		VMOVSD(x, Mem{Base: out, Disp: 8 * i})
	}
}

// pair rounds two vectors of weights to integers between lo and hi or, without
// these, two of magnitudes to E4M3, returns the codes as packTwo does and adds
// what that costs. Magnitudes go step by step beside each other, for which
// integers have too few registers.
func (l *loop) pair(x [2]reg.VecVirtual, lo, hi reg.VecVirtual) reg.VecVirtual {
	var t [2]reg.VecVirtual
	if lo == nil {
		for j := range x {
			t[j] = YMM()
			VMULPS(l.factor, x[j], t[j])
		}
		value := magnitudesE4M3(l.limits, t[0], t[1])
		l.account(0, x[:], value)
		return packTwo(t, false)
	}
	for j := range x {
		quotient := YMM()
		VMULPS(l.factor, x[j], quotient)
		VMAXPS(lo, quotient, quotient)
		VMINPS(hi, quotient, quotient)
		code, value := nearest(quotient)
		l.account(j, x[j:][:1], []reg.VecVirtual{value})
		t[j] = code
	}
	return packTwo(t, true)
}

// account adds what it costs to have values in place of weights x, the first of
// which belong to sum first.
func (l *loop) account(first int, x, value []reg.VecVirtual) {
	for _, v := range value {
		VMULPS(l.s, v, v)
	}
	for j, v := range value {
		VSUBPS(x[j], v, v) // the difference
		VMULPS(x[j], x[j], x[j])
		VADDPS(x[j], l.sq[first+j], l.sq[first+j])
	}
	for j, v := range value {
		VMULPS(v, v, x[j])
		VADDPS(x[j], l.er[first+j], l.er[first+j])
		if l.squares {
			v = x[j]
		} else {
			VPAND(all(absMask), v, v)
		}
		VPMAXUD(v, l.worst, l.worst)
	}
}

// upperHalf returns a copy of the upper half of y, from any of 32 registers with
// AVX-512.
func upperHalf(y reg.VecVirtual, wide bool) reg.VecVirtual {
	half := XMM()
	if wide {
		VEXTRACTI32X4(Imm(1), y, half)
	} else {
		VEXTRACTI128(Imm(1), y, half)
	}
	return half
}

// storeMax replaces the unsigned number at m by the largest lane of y, if that
// is larger.
func storeMax(y reg.VecVirtual, m Mem, wide bool) {
	half, x, old := upperHalf(y, wide), XMM(), XMM()
	VPMAXUD(y.AsX(), half, x)
	for _, order := range []uint64{0x4e, 0xb1} {
		s := XMM()
		VPSHUFD(Imm(order), x, s)
		VPMAXUD(s, x, x)
	}
	VMOVD(m, old)
	VPMAXUD(old, x, x)
	VMOVD(x, m)
}

// nearest returns the integers next to t, ties to even, and their values.
func nearest(t reg.VecVirtual) (code, value reg.VecVirtual) {
	code, value = like(t), like(t)
	VCVTPS2DQ(t, code)
	VCVTDQ2PS(code, value)
	return code, value
}

// like is a register of v's size.
func like(v reg.VecVirtual) reg.VecVirtual {
	if v.Size() == 64 {
		return ZMM()
	}
	return YMM()
}
