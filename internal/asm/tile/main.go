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
	Generate()
}

// frame is what the kernels share.
type frame struct {
	m, bytes   int // tokens; size of an activation
	y          reg.GPVirtual
	x          emit.Rows
	w, skip    reg.GPVirtual // the row; what lies between rows
	n, k, left reg.GPVirtual
}

func begin(name, typ, doc string, m, bytes int) *frame {
	emit.Begin(name, fmt.Sprintf("func(y *int32, ldy int, x *%s, ldx int, w *int8, ldw, n, k int, init *int32)", typ), doc)
	f := &frame{m: m, bytes: bytes, y: GP64(), w: GP64(), skip: GP64(), n: GP64(), k: GP64(), left: GP64()}
	Load(Param("y"), f.y)
	f.x = emit.NewRows("x", "ldx", m, bytes)
	Load(Param("w"), f.w)
	Load(Param("ldw"), f.skip)
	Load(Param("n"), f.n)
	Load(Param("k"), f.k)
	SUBQ(f.k, f.skip)
	return f
}

// advance moves on by n weights.
func (f *frame) advance(n int) {
	f.x.Advance(f.bytes * n)
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
	back := GP64()
	MOVQ(f.k, back)
	if f.bytes == 2 {
		ADDQ(back, back)
	}
	for _, x := range f.x[1:] {
		SUBQ(back, x)
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

// rowsAVX2 widens weights to 16 bits, which activations have already, and
// multiplies pairs: exact for all codes.
func rowsAVX2(m int) {
	f := begin(fmt.Sprintf("rowsInt8x%dAVX2", m), "int16",
		fmt.Sprintf("computes y[i·ldy+j] = init[i] + Σ x[i·ldx+·]·w[j·ldw+·] for %d tokens and n rows of k codes, n at least 1, k a multiple of 16.", m), m, 2)
	Label("row")
	MOVQ(f.k, f.left)
	a := zeroed(m, YMM)
	step := func(at int) {
		w := YMM()
		VPMOVSXBW(Mem{Base: f.w}.Offset(at), w)
		for i := range a {
			p := YMM()
			VPMADDWD(f.x.At(i).Offset(2*at), w, p)
			VPADDD(p, a[i], a[i])
		}
	}
	f.turns("long", 64, func() {
		PREFETCHT0(Mem{Base: f.w, Disp: 1024}) // what a core holds under way by itself is less than memory can bring
		for at := 0; at < 64; at += 16 {
			step(at)
		}
	})
	f.turns("short", 16, func() { step(0) })
	f.rewind()
	f.put(a)
	DECQ(f.n)
	JNZ(LabelRef("row"))
	emit.End()
}

// rowsVNNI multiplies w+128, unsigned, with x; init takes 128·Σx off again.
// Sums wrap modulo 2^32 on the way and end exact.
func rowsVNNI(m int) {
	f := begin(fmt.Sprintf("rowsInt8x%dVNNI", m), "int8",
		fmt.Sprintf("computes y[i·ldy+j] = init[i] + Σ x[i·ldx+·]·(w[j·ldw+·]+128) modulo 2^32 for %d tokens and n rows of k codes, n and k at least 1.",
			m), m, 1)
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
