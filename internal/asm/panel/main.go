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
)

// path is an instruction set: how many rows fit, and its vectors. Rows of
// activations are often a multiple of 4 KiB long: eight of them leave room in
// a set of the first-level cache, twelve do not.
type path struct {
	name        string
	rows, bytes int // rows of a block of float32 and of int8
	size        int // bytes of a vector
	vec         func() reg.VecVirtual
}

var (
	avx2   = path{"AVX2", 6, 6, 32, YMM}
	avx512 = path{"AVX512", 12, 8, 64, ZMM}
)

func main() {
	ConstraintExpr("!purego")
	for _, p := range []path{avx2, avx512} {
		for m := 1; m <= p.rows; m++ {
			float(p, m)
			if m <= p.bytes {
				integer(p, m)
			}
		}
	}
	transpose8()
	Generate()
}

// float computes y = (y +) x·w for m rows and two vectors of columns.
func float(p path, m int) {
	name := fmt.Sprintf("panelF32x%d%s", m, p.name)
	TEXT(name, NOSPLIT, "func(y *float32, ldy int, x *float32, ldx int, w *float32, ldw int, k int, add int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes y[i·ldy+j] = Σ x[i·ldx+·]·w[·ldw+j] for %d rows and %d columns: a chain of fused multiply-adds over k > 0, which begins with y if add is set.", name, m, p.size/2))
	y, ldy := Load(Param("y"), GP64()), Load(Param("ldy"), GP64())
	SHLQ(Imm(2), ldy)
	x := rows("x", "ldx", m, 4)
	w, ldw := Load(Param("w"), GP64()), Load(Param("ldw"), GP64())
	SHLQ(Imm(2), ldw)
	k := Load(Param("k"), GP64())
	acc := make([][2]reg.VecVirtual, m)
	add := Load(Param("add"), GP64())
	for i := range acc {
		acc[i] = [2]reg.VecVirtual{p.vec(), p.vec()}
		zero(acc[i][0])
		zero(acc[i][1])
	}
	TESTQ(add, add)
	JZ(LabelRef("loop"))
	out := GP64()
	MOVQ(y, out)
	for i := range acc {
		VMOVUPS(Mem{Base: out}, acc[i][0])
		VMOVUPS(Mem{Base: out, Disp: p.size}, acc[i][1])
		if i+1 < m {
			ADDQ(ldy, out)
		}
	}
	Label("loop")
	w0, w1 := p.vec(), p.vec()
	VMOVUPS(Mem{Base: w}, w0)
	VMOVUPS(Mem{Base: w, Disp: p.size}, w1)
	for i := range acc {
		b := p.vec()
		VBROADCASTSS(at(x, i), b)
		VFMADD231PS(w0, b, acc[i][0])
		VFMADD231PS(w1, b, acc[i][1])
	}
	ADDQ(ldw, w)
	advance(x, 4)
	DECQ(k)
	JNZ(LabelRef("loop"))
	for i := range acc {
		VMOVUPS(acc[i][0], Mem{Base: y})
		VMOVUPS(acc[i][1], Mem{Base: y, Disp: p.size})
		if i+1 < m {
			ADDQ(ldy, y)
		}
	}
	VZEROUPPER()
	RET()
}

// integer computes m rows of exact sums and scales them. AVX-512 multiplies
// four unsigned panel bytes by four signed ones of x, AVX2 two pairs of 16 bits.
func integer(p path, m int) {
	per := 2
	if p.name == "AVX512" {
		per = 4
	}
	name := fmt.Sprintf("panelInt8x%d%s", m, p.name)
	TEXT(name, NOSPLIT, "func(y *float32, ldy int, x *byte, ldx int, w *byte, steps int, init *int32, scale *float32, token *float32, add int, next *byte)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes v = float32(init[i] + Σ x·w)·scale[j] over %d·steps elements, ldx in bytes, for %d rows and %d columns, adds y if add is set, multiplies by token[i] unless token is nil, and writes y. It prefetches steps/2 lines from next on.", name, per, m, p.size/2))
	x := rows("x", "ldx", m, 1)
	w, k, next := Load(Param("w"), GP64()), Load(Param("steps"), GP64()), Load(Param("next"), GP64())
	init := Load(Param("init"), GP64())
	acc := make([][2]reg.VecVirtual, m)
	for i := range acc {
		acc[i] = [2]reg.VecVirtual{p.vec(), p.vec()}
		VPBROADCASTD(Mem{Base: init, Disp: 4 * i}, acc[i][0])
		VPBROADCASTD(Mem{Base: init, Disp: 4 * i}, acc[i][1])
	}
	step := func(u int) {
		w0, w1 := p.vec(), p.vec()
		if p.size == 64 {
			VMOVDQU64(Mem{Base: w, Disp: 128 * u}, w0)
			VMOVDQU64(Mem{Base: w, Disp: 128*u + 64}, w1)
		} else {
			VMOVDQU(Mem{Base: w, Disp: 64 * u}, w0)
			VMOVDQU(Mem{Base: w, Disp: 64*u + 32}, w1)
		}
		for i := range acc {
			b := p.vec()
			mem := at(x, i)
			mem.Disp += 4 * u
			VPBROADCASTD(mem, b)
			if p.size == 64 {
				VPDPBUSD(b, w0, acc[i][0])
				VPDPBUSD(b, w1, acc[i][1])
				continue
			}
			t := p.vec()
			VPMADDWD(w0, b, t)
			VPADDD(t, acc[i][0], acc[i][0])
			VPMADDWD(w1, b, b)
			VPADDD(b, acc[i][1], acc[i][1])
		}
	}
	SUBQ(Imm(2), k)
	JL(LabelRef("last"))
	Label("loop")
	PREFETCHT1(Mem{Base: next})
	ADDQ(Imm(64), next)
	step(0)
	step(1)
	ADDQ(U32(4*p.size), w)
	advance(x, 8)
	SUBQ(Imm(2), k)
	JGE(LabelRef("loop"))
	Label("last")
	CMPQ(k, I8(-1)) // −1: one step is left
	JNE(LabelRef("scale"))
	step(0)
	Label("scale")
	y, ldy := Load(Param("y"), GP64()), Load(Param("ldy"), GP64())
	SHLQ(Imm(2), ldy)
	scale := Load(Param("scale"), GP64())
	token := Load(Param("token"), GP64())
	add := Load(Param("add"), GP64())
	s0, s1 := p.vec(), p.vec()
	VMOVUPS(Mem{Base: scale}, s0)
	VMOVUPS(Mem{Base: scale, Disp: p.size}, s1)
	for i := range acc {
		for c, s := range []reg.VecVirtual{s0, s1} {
			VCVTDQ2PS(acc[i][c], acc[i][c])
			VMULPS(s, acc[i][c], acc[i][c])
		}
		first, plain := fmt.Sprintf("first%d", i), fmt.Sprintf("plain%d", i)
		TESTQ(add, add)
		JZ(LabelRef(first))
		VADDPS(Mem{Base: y}, acc[i][0], acc[i][0])
		VADDPS(Mem{Base: y, Disp: p.size}, acc[i][1], acc[i][1])
		Label(first)
		TESTQ(token, token)
		JZ(LabelRef(plain))
		t := p.vec()
		VBROADCASTSS(Mem{Base: token, Disp: 4 * i}, t)
		VMULPS(t, acc[i][0], acc[i][0])
		VMULPS(t, acc[i][1], acc[i][1])
		Label(plain)
		VMOVUPS(acc[i][0], Mem{Base: y})
		VMOVUPS(acc[i][1], Mem{Base: y, Disp: p.size})
		if i+1 < m {
			ADDQ(ldy, y)
		}
	}
	VZEROUPPER()
	RET()
}

// rows returns the pointers that address r rows: the stride, and a base for
// every three rows (base, base+stride, base+2·stride).
func rows(p, stride string, r, size int) []reg.GPVirtual {
	base, ld := GP64(), GP64()
	Load(Param(p), base)
	Load(Param(stride), ld)
	for s := size; s > 1; s /= 2 {
		ADDQ(ld, ld)
	}
	out := []reg.GPVirtual{ld, base}
	for i := 3; i < r; i += 3 {
		next := GP64()
		LEAQ(Mem{Base: out[len(out)-1], Index: ld, Scale: 2}, next)
		ADDQ(ld, next)
		out = append(out, next)
	}
	return out
}

// at addresses row i.
func at(p []reg.GPVirtual, i int) Mem {
	m := Mem{Base: p[1+i/3]}
	if s := i % 3; s > 0 {
		m.Index, m.Scale = p[0], uint8(s)
	}
	return m
}

func advance(p []reg.GPVirtual, bytes int) {
	for _, b := range p[1:] {
		ADDQ(Imm(uint64(bytes)), b)
	}
}

func zero(v reg.VecVirtual) {
	if v.Size() == 64 {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}
