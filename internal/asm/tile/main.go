// Command tile generates the vector twins of runtime/kernel's int8 tile kernels:
// exact dot products of a few tokens with rows of weights as they are stored.
//
// With few tokens a product is bound by reading its weights, so that the
// kernels read them as one stream, row after row, which is what the processor's
// prefetching is best at, with as few instructions a byte as there can be: the more
// bytes are under way at once, the less a page's first access costs.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

func main() {
	ConstraintExpr("!purego")
	for m := 1; m <= 4; m++ {
		rowsAVX2(m)
	}
	for m := 1; m <= 4; m++ {
		rowsVNNI(m)
	}
	split()
	Generate()
}

// frame is what the kernels share.
type frame struct {
	m          int // tokens
	y          reg.GPVirtual
	x          emit.Rows
	w, skip    reg.GPVirtual // the row; what lies between rows
	n, k, left reg.GPVirtual
}

func begin(name, doc string, m int, more string) *frame {
	emit.Begin(name, fmt.Sprintf("func(y *int32, ldy int, x *int8, ldx int, w *int8, ldw, n, k int, init *int32%s)", more), doc)
	f := &frame{m: m, y: GP64(), w: GP64(), skip: GP64(), n: GP64(), k: GP64(), left: GP64()}
	Load(Param("y"), f.y)
	f.x = emit.NewRows("x", "ldx", m, 1)
	Load(Param("w"), f.w)
	Load(Param("ldw"), f.skip)
	Load(Param("n"), f.n)
	Load(Param("k"), f.k)
	SUBQ(f.k, f.skip)
	return f
}

// advance moves on by n weights.
func (f *frame) advance(n int) {
	f.x.Advance(n)
	ADDQ(U32(uint32(n)), f.w)
}

// turns repeats a step of n weights while there are as many left; left is what
// is left then.
func (f *frame) turns(name string, n int, step func()) {
	SUBQ(U32(uint32(n)), f.left)
	JL(LabelRef(name + "_end"))
	Label(name)
	step()
	f.advance(n)
	SUBQ(U32(uint32(n)), f.left)
	JGE(LabelRef(name))
	Label(name + "_end")
	ADDQ(U32(uint32(n)), f.left)
}

// rewind moves the activations back to their start and the weights to the next
// row, when all of k is behind.
func (f *frame) rewind() {
	for _, x := range f.x[1:] {
		SUBQ(f.k, x)
	}
	ADDQ(f.skip, f.w)
}

// put folds eight lanes of each token's sum and writes it, plus where it began.
func (f *frame) put(sums []reg.VecVirtual) {
	y, ldy, init := GP64(), GP64(), GP64()
	MOVQ(f.y, y)
	Load(Param("ldy"), ldy)
	Load(Param("init"), init)
	for i, s := range sums {
		h, t := XMM(), XMM()
		VEXTRACTI128(Imm(1), s, h)
		VPADDD(h, s.AsX(), h)
		VPSHUFD(Imm(0b01_00_11_10), h, t)
		VPADDD(t, h, h)
		VPSHUFD(Imm(0b10_11_00_01), h, t)
		VPADDD(t, h, h)
		v := GP32()
		VMOVD(h, v)
		ADDL(Mem{Base: init}.Offset(4*i), v)
		MOVL(v, Mem{Base: y})
		if i < len(sums)-1 {
			LEAQ(Mem{Base: y, Index: ldy, Scale: 4}, y)
		}
	}
	ADDQ(Imm(4), f.y)
}

func zeroed(n int, vec func() reg.VecVirtual) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = vec()
		emit.Zero(v[i])
	}
	return v
}

// rowsAVX2 multiplies w+128, unsigned, with x, as rowsVNNI does. Sums of two
// products are int16 on the way: x may not go beyond, and what was taken off it for
// that (split) is multiplied when the row is through and in the cache.
func rowsAVX2(m int) {
	f := begin(fmt.Sprintf("rowsInt8x%dAVX2", m),
		fmt.Sprintf("computes y[i·ldy+j] = init[i] + Σ x[i·ldx+·]·(w[j·ldw+·]+128) modulo 2^32 for %d tokens and n rows of k codes, n at least 1, k a multiple "+
			"of 32, not 0. Pairs of x have sums within ±128; what x lacks is added, counts[i] chunks for token i, all after each other from rest on.", m), m,
		", rest *byte, counts *int64")
	flip, ones, start := YMM(), YMM(), GP64()
	VMOVDQU(emit.Lanes(0x80808080, 8), flip)
	VMOVDQU(emit.Lanes(1<<16|1, 8), ones)
	add := func(x Mem, w, to, sum reg.VecVirtual) {
		VPMADDUBSW(x, w, to)
		VPMADDWD(ones, to, to)
		VPADDD(to, sum, sum)
	}
	Label("row")
	MOVQ(f.k, f.left)
	MOVQ(f.w, start)
	a := zeroed(m, YMM)
	step := func(at int) {
		w := YMM()
		VPXOR(Mem{Base: f.w}.Offset(at), flip, w)
		for i := range a {
			add(f.x.At(i).Offset(at), w, YMM(), a[i])
		}
	}
	f.turns("long", 64, func() {
		PREFETCHT0(Mem{Base: f.w, Disp: 1024}) // what a core holds under way by itself is less than memory can bring
		step(0)
		step(32)
	})
	f.turns("short", 32, func() { step(0) })
	rest, counts := GP64(), GP64()
	Load(Param("rest"), rest)
	Load(Param("counts"), counts)
	for i := range a {
		loop, end, n, at, w := fmt.Sprintf("chunks%d", i), fmt.Sprintf("no%d", i), GP64(), GP64(), YMM()
		MOVQ(Mem{Base: counts, Disp: 8 * i}, n)
		TESTQ(n, n)
		JZ(LabelRef(end))
		Label(loop)
		MOVQ(Mem{Base: rest}, at)
		VPXOR(Mem{Base: start, Index: at, Scale: 1}, flip, w)
		add(Mem{Base: rest, Disp: 8}, w, w, a[i])
		ADDQ(Imm(chunk), rest)
		DECQ(n)
		JNZ(LabelRef(loop))
		Label(end)
	}
	f.rewind()
	f.put(a)
	DECQ(f.n)
	JNZ(LabelRef("row"))
	emit.End()
}

// chunk is the bytes of a chunk: where 32 codes are in a row, and what was taken
// off them.
const chunk = 8 + 32

// split takes off codes what VPMADDUBSW would not multiply exactly by any byte.
func split() {
	emit.Begin("splitAVX2", "func(kept *int8, rest *byte, x *int8, n int) int",
		"writes x to kept, n codes, a multiple of 32, not 0, less what the sum of a code at an even place and the next is beyond ±128, which is taken off the "+
			"first. What was taken off goes to rest, a chunk for each 32 codes that lost any: their place, in 64 bits, and 32 codes. It returns their number.")
	kept, rest, x, n := Load(Param("kept"), GP64()), Load(Param("rest"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	ones, most, least, even := YMM(), YMM(), YMM(), YMM()
	VMOVDQU(emit.Lanes(0x01010101, 8), ones)
	VMOVDQU(emit.Lanes(128<<16|128, 8), most)
	VMOVDQU(emit.Lanes(0xff80ff80, 8), least)
	VMOVDQU(emit.Lanes(0x00ff00ff, 8), even)
	at, chunks := GP64(), GP64()
	XORQ(at, at)
	XORQ(chunks, chunks)
	Label("loop")
	v, sum, within := YMM(), YMM(), YMM()
	VMOVDQU(Mem{Base: x, Index: at, Scale: 1}, v)
	VPMADDUBSW(v, ones, sum)
	VPMINSW(most, sum, within)
	VPMAXSW(least, within, within)
	VPSUBW(within, sum, sum)
	VPAND(even, sum, sum)
	VPSUBB(sum, v, v)
	VMOVDQU(v, Mem{Base: kept, Index: at, Scale: 1})
	VPTEST(sum, sum)
	JZ(LabelRef("whole"))
	MOVQ(at, Mem{Base: rest})
	VMOVDQU(sum, Mem{Base: rest, Disp: 8})
	ADDQ(Imm(chunk), rest)
	INCQ(chunks)
	Label("whole")
	ADDQ(Imm(32), at)
	CMPQ(at, n)
	JL(LabelRef("loop"))
	VZEROUPPER()
	Store(chunks, ReturnIndex(0))
	RET()
}

// rowsVNNI multiplies w+128, unsigned, with x; init takes 128·Σx off again.
// Sums wrap modulo 2^32 on the way and end exact.
func rowsVNNI(m int) {
	f := begin(fmt.Sprintf("rowsInt8x%dVNNI", m),
		fmt.Sprintf("computes y[i·ldy+j] = init[i] + Σ x[i·ldx+·]·(w[j·ldw+·]+128) modulo 2^32 for %d tokens and n rows of k codes, n and k at least 1.",
			m), m, "")
	flip, c := ZMM(), GP32()
	MOVL(U32(0x80808080), c)
	VPBROADCASTD(c, flip)
	ones, bits, mask := GP64(), GP64(), K() // the last k%64 columns
	MOVQ(I64(-1), ones)
	MOVQ(f.k, bits)
	ANDQ(Imm(63), bits)
	BZHIQ(bits, ones, ones)
	KMOVQ(ones, mask)
	Label("row")
	MOVQ(f.k, f.left)
	chains := max(1, 4/m) // a sum's latency is several times a step
	a := zeroed(chains*m, ZMM)
	f.turns("long", 256, func() {
		for s := range 4 {
			w := ZMM()
			VPXORD(Mem{Base: f.w}.Offset(64*s), flip, w)
			for i := range m {
				VPDPBUSD(f.x.At(i).Offset(64*s), w, a[s%chains*m+i])
			}
		}
	})
	f.turns("short", 64, func() {
		w := ZMM()
		VPXORD(Mem{Base: f.w}, flip, w)
		for i := range m {
			VPDPBUSD(f.x.At(i), w, a[i])
		}
	})
	TESTQ(f.left, f.left)
	JZ(LabelRef("fold"))
	w := ZMM()
	VMOVDQU8_Z(Mem{Base: f.w}, mask, w)
	VPXORD(flip, w, w)
	for i := range m {
		x := ZMM()
		VMOVDQU8_Z(f.x.At(i), mask, x)
		VPDPBUSD(x, w, a[i])
	}
	for _, x := range f.x[1:] {
		ADDQ(f.left, x)
	}
	ADDQ(f.left, f.w)
	Label("fold")
	for i := range m {
		for c := 1; c < chains; c++ {
			VPADDD(a[c*m+i], a[i], a[i])
		}
		hi := YMM()
		VEXTRACTI64X4(Imm(1), a[i], hi)
		VPADDD(hi, a[i].AsY(), hi)
		a[i] = hi
	}
	f.rewind()
	f.put(a[:m])
	DECQ(f.n)
	JNZ(LabelRef("row"))
	emit.End()
}
