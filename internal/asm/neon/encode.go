package main

import (
	"math"

	"github.com/glmconv/glmconv/internal/asm/arm64"
)

const (
	signBit  = 0x80000000
	e4m3Max  = 0x43e00000          // 448
	e4m3Bias = (127 + 20 - 6) << 3 // of the power of two below, where the code's exponent begins
)

// run is a kind of encode: a code format, the dtype of the weights, how a weight
// becomes a quotient. Blocks are 128 columns of an even number of rows, two rows
// a chunk, as if they were packed.
type run struct {
	code, dtype, by string
	block           bool
}

func (r run) name() string {
	switch {
	case r.block:
		return "encode" + r.code + r.dtype + "BlockNEON"
	case r.dtype == "BF16":
		return "encode" + r.code + r.dtype + "NEON"
	}
	return "encode" + r.code + r.by + "NEON"
}

// encoder is a function of encode being written.
type encoder struct {
	run
	*arm64.Func
	factor, s                arm64.V
	lo, hi                   arm64.V // of integers
	top, exponent, up, least arm64.V // of E4M3
	sign                     arm64.V // the sign bits of floats
	one, half, upper         arm64.V // of roundFinite
	sq, er                   []arm64.V
	worst                    arm64.V
	skipCodes, skipWeights   arm64.R // of blocks
}

// encode is the loop of encode: codes to dst, and what they cost to a runError.
// Within a chunk the sixteen lanes of each sum are four registers.
func encode(file *arm64.File, r run) {
	params, doc := "dst *byte, w *byte, n int, ", "rounds n weights, a multiple of sixteen, to codes and adds what that costs to the runError at out."
	if r.block {
		params, doc = params+"cols int, ", "rounds the n weights of a block, 128 columns of n/128 rows of cols, and adds what that costs to "+
			"the runError at out."
	}
	params += "factor float32, s float32, "
	if r.code == "Int" {
		params += "lo float32, hi float32, "
	}
	e := &encoder{run: r, Func: file.Func(r.name(), params+"out *float64", "", doc)}
	e.skipCodes, e.skipWeights = 3, 4
	e.Args(dst, src, count)
	if e.block {
		e.Go("MOVD %s, %s", e.Param("cols"), e.skipCodes)
		e.Go("SUB $128, %s", e.skipCodes)
		e.Go("LSL $1, %s, %s", e.skipCodes, e.skipWeights)
	}
	e.constants()
	out := arm64.R(6)
	e.Go("MOVD %s, %s", e.Param("out"), out)
	sumSq, errSq := e.V(), e.V()
	e.Go("FMOVD (%s), F%d", out, sumSq)
	e.Go("FMOVD 8(%s), F%d", out, errSq)
	e.worst, e.sq, e.er = e.V(), e.Vs(4), e.Vs(4)
	e.Go("FMOVS 16(%s), F%d", out, e.worst) // the other lanes are 0
	e.Label("chunk")
	e.Go("MOVD $256, %s", left)
	e.Go("CMP %s, %s", left, count)
	e.Go("CSEL LT, %s, %s, %s", count, left, left)
	e.Go("SUB %s, %s", left, count)
	e.Zero(e.sq...)
	e.Zero(e.er...)
	e.Label("loop")
	e.sixteen()
	e.Go("SUBS $16, %s", left)
	if e.block {
		e.Go("TST $127, %s", left)
		e.Loop("BNE", "loop", 16)
		e.Go("ADD %s, %s", e.skipCodes, dst) // to the next row
		e.Go("ADD %s, %s", e.skipWeights, src)
		e.Go("CBNZ %s, loop", left)
	} else {
		e.Loop("BNE", "loop", 16)
	}
	for _, v := range []struct {
		lanes []arm64.V
		total arm64.V
	}{{e.sq, sumSq}, {e.er, errSq}} {
		x := fold(e.Func, v.lanes)
		e.Go("FCVTSD F%d, F%d", x, x)
		e.Go("FADDD F%d, F%d, F%d", x, v.total, v.total)
	}
	e.Go("CBNZ %s, chunk", count)
	e.Go("FMOVD F%d, (%s)", sumSq, out)
	e.Go("FMOVD F%d, 8(%s)", errSq, out)
	e.Op("umaxv", e.worst.S(), e.worst.S4())
	e.Go("FMOVS F%d, 16(%s)", e.worst, out)
	e.Go("RET")
}

// constants are kept in registers.
func (e *encoder) constants() {
	e.factor, e.s = e.Broadcast("factor"), e.Broadcast("s")
	if e.by == "BF16Quotient" {
		e.one, e.half, e.upper = e.Lanes(1, tmp), e.Lanes(0x7fff, tmp), e.Lanes(0xffff0000, tmp)
	}
	if e.code == "Int" {
		e.lo, e.hi = e.Broadcast("lo"), e.Broadcast("hi")
		return
	}
	e.top, e.exponent, e.up = e.Lanes(e4m3Max, tmp), e.Lanes(0x7f800000, tmp), e.Lanes(20<<23, tmp)
	e.least = e.Lanes(math.Float32bits(1<<14), tmp)
	e.sign = e.Lanes(signBit, tmp)
}

// sixteen weights, in pairs of vectors so that the temporary registers suffice.
func (e *encoder) sixteen() {
	var halves []arm64.V
	if e.dtype == "BF16" {
		halves = e.Vs(2)
		e.Load(src.Post(32), halves...)
	}
	var codes, signs []arm64.V // of each pair: eight halves
	for p := range 2 {
		x := e.Vs(2)
		if e.dtype == "BF16" {
			e.Op("shll", x[0].S4(), halves[p].H4(), arm64.Imm(16))
			e.Op("shll2", x[1].S4(), halves[p].H8(), arm64.Imm(16))
			e.Free(halves[p])
		} else {
			e.Load(src.Post(32), x...)
		}
		t := e.quotient(x)
		var deq []arm64.V
		if e.code == "Int" {
			deq = e.roundInt(t)
		} else {
			sign := e.V()
			e.H8("uzp2", sign, t[0], t[1])
			signs = append(signs, sign)
			deq = e.roundE4M3(t)
		}
		e.H8("uzp1", t[0], t[0], t[1]) // the codes' low halves
		codes = append(codes, t[0])
		e.Free(t[1])
		e.measure(x, deq, e.sq[2*p:], e.er[2*p:])
	}
	e.B16("uzp1", codes[0], codes[0], codes[1])
	if e.code == "E4M3" {
		e.B16("uzp2", signs[0], signs[0], signs[1])
		c := signs[1]
		e.Op("movi", c.B16(), arm64.Imm(e4m3Bias&0xff))
		e.B16("sub", codes[0], codes[0], c)
		// The sign bits of floats end in the sign bits of bytes.
		e.Op("movi", c.B16(), arm64.Imm(0x80))
		e.B16("bit", codes[0], signs[0], c)
		e.Free(signs...)
	}
	e.Store(dst.Post(16), codes[0])
	e.Free(codes...)
}

// quotient turns weights into what is rounded, as quotients does.
func (e *encoder) quotient(x []arm64.V) []arm64.V {
	t := e.Vs(2)
	op := "fdiv"
	if e.by == "Reciprocal" {
		op = "fmul"
	}
	for i := range t {
		e.S4(op, t[i], x[i], e.factor)
	}
	if e.by == "BF16Quotient" { // then roundFinite
		for i := range t {
			odd := e.V()
			e.Op("ushr", odd.S4(), t[i].S4(), arm64.Imm(16))
			e.B16("and", odd, odd, e.one)
			e.S4("add", t[i], t[i], e.half)
			e.S4("add", t[i], t[i], odd)
			e.B16("and", t[i], t[i], e.upper)
			e.Free(odd)
		}
	}
	return t
}

// roundInt clamps t, turns it into integers and returns their values.
func (e *encoder) roundInt(t []arm64.V) (value []arm64.V) {
	value = e.Vs(2)
	for i := range t {
		e.S4("fmax", t[i], t[i], e.lo)
	}
	for i := range t {
		e.S4("fmin", t[i], t[i], e.hi)
	}
	for i := range t {
		e.S4("fcvtns", t[i], t[i]) // half to even
	}
	for i := range t {
		e.S4("scvtf", value[i], t[i])
	}
	return value
}

// roundE4M3 is F32ToE4M3, and what its codes stand for. With m = 2^(e+20), e the
// exponent of t but at least -6, t+m has steps of 2^(e-3): the sum rounds half
// to even, and its low bits n are the significand, so that the code is
// (e+6)·8 + n for normal and subnormal numbers alike. It leaves in t the code
// without its sign, and e4m3Bias too many of it.
func (e *encoder) roundE4M3(t []arm64.V) (value []arm64.V) {
	value = e.Vs(2)
	for i := range t {
		a, m := e.V(), e.V()
		e.S4("fabs", a, t[i])
		e.S4("umin", a, a, e.top)
		e.B16("and", m, a, e.exponent)
		e.S4("add", m, m, e.up)
		e.S4("umax", m, m, e.least)
		e.S4("fadd", a, a, m)
		e.S4("fsub", value[i], a, m)
		e.B16("bit", value[i], t[i], e.sign)
		e.S4("sub", t[i], a, m)
		e.Op("usra", t[i].S4(), m.S4(), arm64.Imm(20))
		e.Free(a, m)
	}
	return value
}

// measure adds the squares of weights and of their errors to the lanes.
func (e *encoder) measure(x, value, sq, er []arm64.V) {
	for i := range x {
		e.S4("fmul", value[i], value[i], e.s)
	}
	for i := range x {
		e.S4("fabd", value[i], value[i], x[i]) // the difference's magnitude
	}
	for i := range x {
		e.S4("fmul", x[i], x[i], x[i])
	}
	for i := range x {
		e.S4("fadd", sq[i], sq[i], x[i])
		e.S4("umax", e.worst, e.worst, value[i])
	}
	for i := range x {
		e.S4("fmul", value[i], value[i], value[i])
	}
	for i := range x {
		e.S4("fadd", er[i], er[i], value[i])
	}
	e.Free(x...)
	e.Free(value...)
}

// fold adds sixteen lanes as laneSum.fold does: j and j+8, +4, +2, +1. The sum
// is the lowest lane of lanes[0].
func fold(f *arm64.Func, lanes []arm64.V) arm64.V {
	x, y := lanes[0], lanes[1]
	f.S4("fadd", x, x, lanes[2])
	f.S4("fadd", y, y, lanes[3])
	f.S4("fadd", x, x, y)
	f.Op("ext", y.B16(), x.B16(), x.B16(), arm64.Imm(8))
	f.S4("fadd", x, x, y)
	f.Op("faddp", x.S(), x.S2())
	return x
}

// correlateMany is correlate for k reciprocals over one chunk.
func correlateMany(file *arm64.File) {
	f := file.Func("correlateManyNEON", "w *float32, n int, r *float32, k int, out *float32", "",
		"writes Σ w·q and Σ q² of a chunk of n weights, a multiple of sixteen, q rounded to int4 by each of the k reciprocals at r.")
	w, n, r, k, out, at := arm64.R(0), arm64.R(1), arm64.R(2), arm64.R(3), arm64.R(4), arm64.R(6)
	f.Args(w, n, r, k, out)
	lo, hi := f.Lanes(math.Float32bits(-8), tmp), f.Lanes(math.Float32bits(7), tmp)
	factor, sum, squares := f.V(), f.Vs(4), f.Vs(4)
	x, t := f.Vs(4), f.Vs(4)
	f.Label("candidate")
	f.Go("FMOVS.P 4(%s), F%d", r, factor)
	f.Op("dup", factor.S4(), factor.S0())
	f.Zero(sum...)
	f.Zero(squares...)
	f.Go("MOVD %s, %s", w, at)
	f.Go("MOVD %s, %s", n, left)
	f.Label("loop")
	f.Load(at.Post(32), x[0], x[1])
	f.Load(at.Post(32), x[2], x[3])
	each := func(op string, operands func(i int) []arm64.V) {
		for i := range 4 {
			f.S4(op, operands(i)...)
		}
	}
	each("fmul", func(i int) []arm64.V { return []arm64.V{t[i], x[i], factor} })
	each("fmax", func(i int) []arm64.V { return []arm64.V{t[i], t[i], lo} })
	each("fmin", func(i int) []arm64.V { return []arm64.V{t[i], t[i], hi} })
	each("frintn", func(i int) []arm64.V { return []arm64.V{t[i], t[i]} })
	each("fmla", func(i int) []arm64.V { return []arm64.V{squares[i], t[i], t[i]} }) // small integers: exact in any order
	each("fmul", func(i int) []arm64.V { return []arm64.V{t[i], t[i], x[i]} })
	each("fadd", func(i int) []arm64.V { return []arm64.V{sum[i], sum[i], t[i]} })
	f.Go("SUBS $16, %s", left)
	f.Loop("BNE", "loop", 16)
	for i, lanes := range [][]arm64.V{sum, squares} {
		f.Go("FMOVS F%d, %d(%s)", fold(f, lanes), 4*i, out)
	}
	f.Go("ADD $8, %s", out)
	f.Go("SUBS $1, %s", k)
	f.Go("BNE candidate")
	f.Go("RET")
}
