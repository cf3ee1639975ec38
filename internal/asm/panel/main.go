// Command panel generates the vector twins of runtime/kernel's panel kernels.
//
// A panel holds a few columns of the right factor (output features, keys or
// dimensions of a value) with all that a vector of them needs at one step of k
// side by side. A block kernel keeps m rows by two vectors of sums in registers,
// reads the panel once and broadcasts the left factor: no sum crosses lanes, so
// that every element is summed over k in order whatever the block.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// path is an instruction set: the largest block that fits its registers, in
// rows and vectors of columns, and its vectors. A block of 6 × 4 needs the
// fewest loads for its 24 sums, and six rows of activations, which are often a
// multiple of 4 KiB long, leave room in a set of the first-level cache.
type path struct {
	name       string
	rows, cols int
	size       int // bytes of a vector
	vec        func() reg.VecVirtual
}

var (
	avx2   = path{"AVX2", 6, 2, 32, YMM}
	avx512 = path{"AVX512", 6, 4, 64, ZMM}
)

// block makes the registers of a block, or of a row of it.
func (p path) block(m int) (acc [][]reg.VecVirtual) {
	for range m {
		var row []reg.VecVirtual
		for range p.cols {
			row = append(row, p.vec())
		}
		acc = append(acc, row)
	}
	return acc
}

// each calls fn for every register with its place in memory: rows ld bytes
// apart from base on, base moving, or all behind each other if ld is nil.
func (p path) each(acc [][]reg.VecVirtual, base reg.Register, ld Op, fn func(v reg.VecVirtual, mem Mem)) {
	for i := range acc {
		for j := range acc[i] {
			at := j
			if ld == nil {
				at += i * p.cols
			}
			fn(acc[i][j], Mem{Base: base, Disp: at * p.size})
		}
		if ld != nil && i+1 < len(acc) {
			ADDQ(ld, base)
		}
	}
}

func main() {
	ConstraintExpr("!purego")
	for _, p := range []path{avx2, avx512} {
		for m := 1; m <= p.rows; m++ {
			float(p, m)
			integer(p, m)
			double(p, m)
		}
	}
	transposes()
	transpose16()
	for m := 1; m <= 3; m++ {
		fewBF16(m)
	}
	for m := 1; m <= 3; m++ {
		fewBF16Narrow(m)
	}
	Generate()
}

// float computes y = (y +) x·w for m rows and two vectors of columns.
func float(p path, m int) {
	name := fmt.Sprintf("panelF32x%d%s", m, p.name)
	emit.Begin(name, "func(y *float32, ldy int, x *float32, ldx int, w *float32, ldw int, k int, add int, next *byte, hop int, scale, token *float32, "+
		"onto int)", fmt.Sprintf("computes y[i·ldy+j] = Σ x[i·ldx+·]·w[·ldw+j] for %d rows and %d columns: a chain of fused multiply-adds over k > 0, which begins "+
		"with y if add is set. With scale it is multiplied by scale[j]·token[i] and, if onto is set, added to y. It prefetches from next on, hop bytes "+
		"further every second step.", m, p.size*p.cols/4))
	y, ldy := Load(Param("y"), GP64()), Load(Param("ldy"), GP64())
	SHLQ(Imm(2), ldy)
	x := emit.NewRows("x", "ldx", m, 4)
	w, ldw := Load(Param("w"), GP64()), Load(Param("ldw"), GP64())
	SHLQ(Imm(2), ldw)
	k := Load(Param("k"), GP64())
	add := Load(Param("add"), GP64())
	next, hop := Load(Param("next"), GP64()), Load(Param("hop"), GP64())
	acc := p.block(m)
	p.each(acc, y, nil, func(v reg.VecVirtual, _ Mem) { emit.Zero(v) })
	TESTQ(add, add)
	JZ(LabelRef("begin"))
	old := GP64()
	MOVQ(y, old)
	p.each(acc, old, ldy, func(v reg.VecVirtual, mem Mem) { VMOVUPS(mem, v) })
	Label("begin")
	unrolled(k, 2, func(steps int) {
		if steps > 1 {
			PREFETCHT1(Mem{Base: next})
			ADDQ(hop, next)
		}
		for u := range steps {
			p.chain(float32s, acc, w, ldw, x, u)
		}
		x.Advance(4 * steps)
	})
	scale := Load(Param("scale"), GP64())
	TESTQ(scale, scale)
	JNZ(LabelRef("finish"))
	p.each(acc, y, ldy, func(v reg.VecVirtual, mem Mem) { VMOVUPS(v, mem) })
	emit.End()
	Label("finish")
	p.scaleRows(acc, scale, y, ldy)
	emit.End()
}

// element is a type of numbers: its bytes, and what is done with vectors of them.
type element struct {
	bytes                int
	load, broadcast, fma func(...Op)
}

var (
	float32s = element{4, VMOVUPS, VBROADCASTSS, VFMADD231PS}
	float64s = element{8, VMOVUPD, VBROADCASTSD, VFNMADD231PD} // taken away
)

// chain adds the products of step u, a row of the panel by a column of x, to the
// sums of a block.
func (p path) chain(e element, acc [][]reg.VecVirtual, w, ldw reg.Register, x emit.Rows, u int) {
	ws := p.block(1)
	p.each(ws, w, nil, func(v reg.VecVirtual, mem Mem) { e.load(mem, v) })
	ADDQ(ldw, w)
	for i := range acc {
		b := p.vec()
		e.broadcast(x.At(i).Offset(e.bytes*u), b)
		for j, v := range acc[i] {
			e.fma(ws[0][j], b, v)
		}
	}
}

// scaleRows writes the sums of a block to y: times the scales of the columns
// and rows, y added if onto is set.
func (p path) scaleRows(acc [][]reg.VecVirtual, scale, y, ldy reg.Register) {
	token, onto := Load(Param("token"), GP64()), Load(Param("onto"), GP64())
	for i := range acc {
		row, t := acc[i:i+1], p.vec()
		VBROADCASTSS(Mem{Base: token, Disp: 4 * i}, t)
		p.each(row, scale, nil, func(v reg.VecVirtual, mem Mem) {
			f := p.vec()
			VMULPS(mem, t, f)
			VMULPS(f, v, v)
		})
		first := fmt.Sprintf("first%d", i)
		TESTQ(onto, onto)
		JZ(LabelRef(first))
		p.each(row, y, nil, func(v reg.VecVirtual, mem Mem) { VADDPS(mem, v, v) })
		Label(first)
		p.each(row, y, nil, func(v reg.VecVirtual, mem Mem) { VMOVUPS(v, mem) })
		if i+1 < len(acc) {
			ADDQ(ldy, y)
		}
	}
}

// integer computes m rows of exact sums, begun or carried on, kept or scaled.
// Both paths multiply four unsigned panel bytes by four signed ones of x. With
// AVX2 sums of two products are int16 on the way: what x holds may not go beyond,
// and what was taken off it for that follows in a list.
func integer(p path, m int) {
	name, rest := fmt.Sprintf("panelInt8x%d%s", m, p.name), " rest, runs and from are not used."
	if p.size == 32 {
		rest = " Pairs of x have sums within ±128. What x lacks is added if rest is not nil: row i's pieces are runs[i][1] ones from rest[runs[i][0]] on, " +
			"each a place in the panel, from bytes before w, and four codes."
	}
	emit.Begin(name, "func(y *float32, ldy int, x *byte, ldx int, w *byte, steps int, acc, init *int32, scale, token *float32, add int, next *byte, "+
		"hop int, rest *byte, runs *int32, from int)", fmt.Sprintf("adds Σ x·w over 4·steps elements to sums for %d rows (ldx in bytes) and %d columns. "+
		"The sums begin with init[i], or with acc if init is nil. They go to acc if scale is nil; else v = float32(sum)·scale[j], y is added if add is set, "+
		"v is multiplied by token[i] unless token is nil and written to y. It prefetches two lines from next on, hop bytes further every fourth step.%s",
		m, p.size*p.cols/4, rest))
	x := emit.NewRows("x", "ldx", m, 1)
	w, k, next, hop := Load(Param("w"), GP64()), Load(Param("steps"), GP64()), Load(Param("next"), GP64()), Load(Param("hop"), GP64())
	init, sums := Load(Param("init"), GP64()), Load(Param("acc"), GP64())
	acc := p.block(m)
	TESTQ(init, init)
	JZ(LabelRef("carry"))
	for i := range acc {
		for _, v := range acc[i] {
			VPBROADCASTD(Mem{Base: init, Disp: 4 * i}, v)
		}
	}
	JMP(LabelRef("begin"))
	Label("carry")
	p.each(acc, sums, nil, func(v reg.VecVirtual, mem Mem) { p.move(mem, v) })
	Label("begin")
	dot := p.dots(m)
	unrolled(k, 4, func(steps int) {
		if steps > 1 {
			PREFETCHT1(Mem{Base: next})
			PREFETCHT1(Mem{Base: next, Disp: 64})
			ADDQ(hop, next)
		}
		for u := range steps {
			p.multiply(acc, w, x, u, dot)
		}
		ADDQ(U32(steps*p.cols*p.size), w)
		x.Advance(4 * steps)
	})
	if p.size == 32 {
		p.addPieces(acc, dot)
	}
	scale := Load(Param("scale"), GP64())
	TESTQ(scale, scale)
	JNZ(LabelRef("finish"))
	p.each(acc, sums, nil, func(v reg.VecVirtual, mem Mem) { p.move(v, mem) })
	emit.End()
	Label("finish")
	p.scaleSums(acc, scale)
	emit.End()
}

// dots returns what adds the dot products of fours of unsigned and signed bytes
// to sums; t is free to use, and may be signed itself.
func (p path) dots(m int) func(unsigned, signed, t, sum reg.VecVirtual) {
	if p.size == 64 {
		return func(unsigned, signed, _, sum reg.VecVirtual) { VPDPBUSD(signed, unsigned, sum) }
	}
	var ones Op = emit.Lanes(1<<16|1, 8)
	if m*p.cols+5 <= 16 { // registers
		v := YMM()
		VMOVDQU(ones, v)
		ones = v
	}
	return func(unsigned, signed, t, sum reg.VecVirtual) {
		VPMADDUBSW(signed, unsigned, t)
		VPMADDWD(ones, t, t)
		VPADDD(t, sum, sum)
	}
}

// addPieces adds to every row the products of its pieces.
func (p path) addPieces(acc [][]reg.VecVirtual, dot func(unsigned, signed, t, sum reg.VecVirtual)) {
	rest := Load(Param("rest"), GP64())
	TESTQ(rest, rest)
	JZ(LabelRef("whole"))
	runs, w, from := Load(Param("runs"), GP64()), Load(Param("w"), GP64()), Load(Param("from"), GP64())
	SUBQ(from, w)
	for i := range acc {
		loop, end := fmt.Sprintf("pieces%d", i), fmt.Sprintf("no%d", i)
		n, at, place := GP32(), GP64(), GP64()
		MOVL(Mem{Base: runs, Disp: 8*i + 4}, n)
		TESTL(n, n)
		JZ(LabelRef(end))
		MOVLQSX(Mem{Base: runs, Disp: 8 * i}, at)
		LEAQ(Mem{Base: rest, Index: at, Scale: 8}, at)
		Label(loop)
		MOVLQSX(Mem{Base: at}, place)
		b := p.vec()
		VPBROADCASTD(Mem{Base: at, Disp: 4}, b)
		for j, v := range acc[i] {
			weights := p.vec()
			VMOVDQU(Mem{Base: w, Index: place, Scale: 1, Disp: j * p.size}, weights)
			dot(weights, b, weights, v)
		}
		ADDQ(Imm(8), at)
		DECL(n)
		JNZ(LabelRef(loop))
		Label(end)
	}
	Label("whole")
}

// move copies a vector of integers from or to memory.
func (p path) move(from, to Op) {
	if p.size == 64 {
		VMOVDQU32(from, to)
	} else {
		VMOVDQU(from, to)
	}
}

// multiply adds the products of step u of a block of codes to its sums.
func (p path) multiply(acc [][]reg.VecVirtual, w reg.Register, x emit.Rows, u int, dot func(unsigned, signed, t, sum reg.VecVirtual)) {
	ws := p.block(1)
	p.each(ws, w, nil, func(v reg.VecVirtual, mem Mem) { p.move(mem.Offset(u*p.cols*p.size), v) })
	for i := range acc {
		b := p.vec()
		VPBROADCASTD(x.At(i).Offset(4*u), b)
		for j, v := range acc[i] {
			t := b // for the last
			if j < p.cols-1 && p.size == 32 {
				t = p.vec()
			}
			dot(ws[0][j], b, t, v)
		}
	}
}

// scaleSums writes the sums of a block to y as floats: times the scales of the
// columns, y added if add is set, times those of the rows if there are any.
func (p path) scaleSums(acc [][]reg.VecVirtual, scale reg.Register) {
	y, ldy := Load(Param("y"), GP64()), Load(Param("ldy"), GP64())
	SHLQ(Imm(2), ldy)
	token := Load(Param("token"), GP64())
	add := Load(Param("add"), GP64())
	factors := p.block(1)
	p.each(factors, scale, nil, func(v reg.VecVirtual, mem Mem) { VMOVUPS(mem, v) })
	for i := range acc {
		row := acc[i : i+1]
		for j, v := range acc[i] {
			VCVTDQ2PS(v, v)
			VMULPS(factors[0][j], v, v)
		}
		first, plain := fmt.Sprintf("first%d", i), fmt.Sprintf("plain%d", i)
		TESTQ(add, add)
		JZ(LabelRef(first))
		p.each(row, y, nil, func(v reg.VecVirtual, mem Mem) { VADDPS(mem, v, v) })
		Label(first)
		TESTQ(token, token)
		JZ(LabelRef(plain))
		t := p.vec()
		VBROADCASTSS(Mem{Base: token, Disp: 4 * i}, t)
		p.each(row, y, nil, func(v reg.VecVirtual, _ Mem) { VMULPS(t, v, v) })
		Label(plain)
		p.each(row, y, nil, func(v reg.VecVirtual, mem Mem) { VMOVUPS(v, mem) })
		if i+1 < len(acc) {
			ADDQ(ldy, y)
		}
	}
}

// unrolled runs n > 0 steps, many of them at a time as long as there are enough.
func unrolled(n reg.Register, many int, body func(steps int)) {
	SUBQ(Imm(uint64(many)), n)
	JL(LabelRef("rest"))
	Label("loop")
	body(many)
	SUBQ(Imm(uint64(many)), n)
	JGE(LabelRef("loop"))
	Label("rest")
	ADDQ(Imm(uint64(many)), n)
	JZ(LabelRef("end"))
	Label("one")
	body(1)
	DECQ(n)
	JNZ(LabelRef("one"))
	Label("end")
}
