package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// E4M3 codes of one scale to those of another. As long as neither is a subnormal
// number, what becomes of a code depends on its three bits of significand alone,
// but for a power of two: eight codes by one scale give the others of a block by
// a look at a table, how far the new code lies from the old and the squares of the
// weight and of what rounding it costs. Products with powers of two are exact, so
// that sums have the bits that encode gives them; and the root of a rounded square
// is what was squared.

// A table as numeric.recoding has it: squares of weights and costs, which twice a
// code's exponent less 127 is the exponent for, 256 times the scale in all lanes,
// steps from code to code, and in all bytes the least magnitude that the table is
// for.
const (
	tableWeight = 32 * iota
	tableCost
	tableScale
	tableStep
	tableLeast
	tableSize
)

// lanesOf is a constant of eight different lanes.
func lanesOf(name string, of func(i int) uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(of(i)))
	}
	return m
}

// recodeTables makes tables.
func recodeTables() {
	emit.Begin("recodeTablesAVX2", "func(tables *byte, scales *float32, n int, factor, s float32)",
		"writes what becomes of codes under each of n scales that are rounded anew by the reciprocal factor of the scale s.")
	// magnitudes with the exponent 0, codes 56 to 63, and these where 8(127-7) is added
	ones := lanesOf("onesE4M3", func(i int) uint32 { return math.Float32bits(1 + float32(i)/8) })
	codes := lanesOf("codesE4M3", func(i int) uint32 { return uint32(960 + 56 + i) })
	table, scales, n := Load(Param("tables"), GP64()), Load(Param("scales"), GP64()), Load(Param("n"), GP64())
	factor, s := emit.Broadcast("factor", YMM()), emit.Broadcast("s", YMM())
	c, one, up, exponents := heldE4M3(2), YMM(), YMM(), XMM()
	VMOVUPS(ones, one)
	VMOVUPS(float(1<<(127-14)), up)
	VMOVDQU(all(128), exponents)
	Label("table")
	of, w, t, q := YMM(), YMM(), YMM(), YMM()
	VBROADCASTSS(Mem{Base: scales}, of)
	VMULPS(of, one, w)
	VMULPS(factor, w, t)
	least, bytes := XMM(), YMM()
	VPSRLD(Imm(23), t.AsX(), least)
	VPSUBD(least, exponents, least)
	VPSLLD(Imm(3), least, least)
	VPMAXSD(all(8), least, least)
	VPMINSD(all(127), least, least)
	VPBROADCASTB(least, bytes)
	VMOVDQU(bytes, Mem{Base: table, Disp: tableLeast})
	VPAND(c.exponent, t, q)
	VFMADD231PS(c.up, q, t)
	VFNMADD132PS(c.up, t, q)
	step := YMM()
	VPSRLD(Imm(20), q, step)
	VPSUBD(codes, step, step)
	x := upperHalf(step, false)
	VPACKSSDW(x, step.AsX(), x)
	VPACKSSWB(x, x, x)
	VPBROADCASTQ(x, step)
	VMOVDQU(step, Mem{Base: table, Disp: tableStep})
	VMULPS(s, q, q)
	VSUBPS(w, q, q)
	VMULPS(q, q, q)
	VMULPS(up, q, q)
	VMOVUPS(q, Mem{Base: table, Disp: tableCost})
	VMULPS(w, w, w)
	VMULPS(up, w, w)
	VMOVUPS(w, Mem{Base: table, Disp: tableWeight})
	VMULPS(float(1<<8), of, of)
	VMOVUPS(of, Mem{Base: table, Disp: tableScale})
	ADDQ(Imm(4), scales)
	ADDQ(U32(tableSize), table)
	DECQ(n)
	JNZ(LabelRef("table"))
	emit.End()
}

// recoder is a loop over codes that have tables. Without dst it finds the errors
// alone.
type recoder struct {
	loop
	at, table reg.Register
	codes     bool

	exponents, weights, costs reg.VecVirtual
}

// recodes are the twins with tables.
func recodes() {
	recodeTables()
	recode()
	recodeError()
}

// recode rounds codes with tables.
func recode() {
	emit.Begin("recodeE4M3AVX2", "func(dst, codes *byte, n int, tables *byte, step int, factor, s float32, out *float64)",
		"writes the codes that n others become, a multiple of 128, each 128 by a table, step bytes after the one before, and adds what that costs to the runError at out.")
	r := &recoder{codes: true, loop: loop{squares: true}}
	r.dst, r.at = Load(Param("dst"), GP64()), Load(Param("codes"), GP64())
	n, step, out := Load(Param("n"), GP64()), Load(Param("step"), GP64()), Load(Param("out"), GP64())
	r.table = Load(Param("tables"), GP64())
	r.sq, r.er, r.worst = []reg.VecVirtual{YMM(), YMM()}, []reg.VecVirtual{YMM(), YMM()}, YMM()
	emit.Zero(r.worst)
	left := GP64()
	r.chunk(n, left, step)
	run{isa: "AVX2", dtype: "F32"}.addSums(&r.loop, out)
	TESTQ(n, n)
	JNZ(LabelRef("chunk"))
	VSQRTPS(r.worst, r.worst)
	storeMax(r.worst, Mem{Base: out, Disp: 16}, false)
	emit.End()
	r.small()
}

// recodeError is the error of recode without the codes.
func recodeError() {
	emit.Begin("recodeErrorAVX2", "func(codes *byte, n int, tables *byte, step int, factor, s float32, limit float64) float64",
		"returns the squared error of recodeE4M3AVX2, or what it has come to after the chunk that brings it to the limit.")
	r := &recoder{at: Load(Param("codes"), GP64())}
	n, step := Load(Param("n"), GP64()), Load(Param("step"), GP64())
	r.table = Load(Param("tables"), GP64())
	limit, err := Param("limit").Resolve()
	if err != nil {
		panic(err)
	}
	sum := XMM()
	emit.Zero(sum)
	r.er = []reg.VecVirtual{YMM(), YMM()}
	left := GP64()
	r.chunk(n, left, step)
	returnError(r.er, sum, limit.Addr, n)
	r.small()
}

// chunk goes through a chunk of at most 256 of n codes.
func (r *recoder) chunk(n, left, step reg.Register) {
	r.exponents = YMM()
	VMOVDQU(all(0x0f000000), r.exponents)
	Label("chunk")
	MOVQ(U32(256), left)
	CMPQ(n, left)
	CMOVQLT(n, left)
	SUBQ(left, n)
	for _, v := range append(append([]reg.VecVirtual{}, r.sq...), r.er...) {
		emit.Zero(v)
	}
	Label("block")
	r.weights, r.costs = YMM(), YMM()
	r.hold()
	Label("loop")
	codes, magnitudes, most, hits := YMM(), YMM(), YMM(), GP32()
	VMOVDQU(Mem{Base: r.at}, codes)
	VPAND(all(0x7f7f7f7f), codes, magnitudes)
	VPMAXUB(Mem{Base: r.table, Disp: tableLeast}, magnitudes, most)
	VPCMPEQB(magnitudes, most, most)
	VPMOVMSKB(most, hits)
	CMPL(hits, I8(-1))
	JNE(LabelRef("small"))
	if r.codes {
		steps := YMM()
		VPAND(all(0x07070707), codes, magnitudes)
		VMOVDQU(Mem{Base: r.table, Disp: tableStep}, steps)
		VPSHUFB(magnitudes, steps, steps)
		VPADDB(steps, codes, codes)
		VMOVDQU(codes, Mem{Base: r.dst})
	}
	for i := 0; i < 32; i += 16 {
		r.sixteen(i)
	}
	Label("next")
	ADDQ(Imm(32), r.at)
	if r.codes {
		ADDQ(Imm(32), r.dst)
	}
	SUBQ(Imm(32), left)
	TESTQ(U32(blockColumns-1), left)
	JNZ(LabelRef("loop"))
	ADDQ(step, r.table)
	TESTQ(left, left)
	JNZ(LabelRef("block"))
}

// hold loads what the loop needs besides sums.
func (r *recoder) hold() {
	VMOVUPS(Mem{Base: r.table, Disp: tableCost}, r.costs)
	if r.codes {
		VMOVUPS(Mem{Base: r.table, Disp: tableWeight}, r.weights)
	}
}

// sixteen looks up the squares of sixteen codes from i on.
func (r *recoder) sixteen(i int) {
	var code, power [2]reg.VecVirtual
	for j := range code {
		code[j], power[j] = YMM(), YMM()
		VPMOVZXBD(Mem{Base: r.at, Disp: i + 8*j}, code[j])
		VPSLLD(Imm(21), code[j], power[j])
		VPAND(r.exponents, power[j], power[j])
	}
	for j, c := range code {
		cost := YMM()
		if r.codes {
			weight := YMM()
			VPERMPS(r.weights, c, weight)
			VMULPS(power[j], weight, weight)
			VADDPS(weight, r.sq[j], r.sq[j])
		}
		VPERMPS(r.costs, c, cost)
		VMULPS(power[j], cost, cost)
		if r.codes {
			VPMAXUD(cost, r.worst, r.worst)
		}
		VADDPS(cost, r.er[j], r.er[j])
	}
}

// small is what thirty-two codes come to of which one is too small for the table:
// they are widened and rounded as encode does it.
func (r *recoder) small() {
	Label("small")
	r.factor, r.s, r.limits = emit.Broadcast("factor", YMM()), emit.Broadcast("s", YMM()), heldE4M3(0)
	for i := 0; i < 32; i += 16 {
		words, x := YMM(), [2]reg.VecVirtual{YMM(), YMM()}
		VPMOVSXBW(Mem{Base: r.at, Disp: i}, words)
		VPSLLW(Imm(7), words, words)
		VPAND(all(0x3fff3fff), words, words)
		VCVTPH2PS(words.AsX(), x[0])
		VCVTPH2PS(upperHalf(words, false), x[1])
		for _, v := range x {
			VMULPS(Mem{Base: r.table, Disp: tableScale}, v, v)
		}
		if !r.codes {
			r.cost(x)
			continue
		}
		pack, signs := r.pair(x, nil, nil), XMM()
		VPERMQ(Imm(0xd8), pack, pack) // words in order
		upper := upperHalf(pack, false)
		VPACKUSWB(upper, pack.AsX(), upper)
		VMOVDQU(Mem{Base: r.at, Disp: i}, signs)
		VPAND(all(0x80808080), signs, signs)
		VPOR(signs, upper, upper)
		VMOVDQU(upper, Mem{Base: r.dst, Disp: i})
	}
	r.hold()
	JMP(LabelRef("next"))
}

// cost adds what it costs to round magnitudes.
func (r *recoder) cost(x [2]reg.VecVirtual) {
	t := []reg.VecVirtual{YMM(), YMM()}
	for j := range x {
		VMULPS(r.factor, x[j], t[j])
	}
	for j, v := range valuesE4M3(r.limits, t...) {
		VMULPS(r.s, v, v)
		VSUBPS(x[j], v, v)
		VMULPS(v, v, v)
		VADDPS(v, r.er[j], r.er[j])
	}
}
