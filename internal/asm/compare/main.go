// Command compare generates the vector twin of verify/diff's sums.
//
// A sum is four interleaved float64 ones, which are the lanes of one register;
// products and sums are rounded one by one, so that the bits are plain Go's.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

func main() {
	ConstraintExpr("!purego")
	add("addPairAVX2", false)
	add("addTripleAVX2", true)
	Generate()
}

// What VCMPPD compares.
const (
	equal     = 0 // ordered, not signalling
	unordered = 3
)

var magnitude = func() Mem {
	m := GLOBL("magnitude", RODATA|NOPTR)
	for i := range 4 {
		DATA(8*i, U64(1<<63-1))
	}
	return m
}()

// add is totals.add. The sums lie at t one after the other: squares of x, of
// y−x, of z, of z−x, of y−z; then the largest |y−x|.
func add(name string, own bool) {
	sig, doc := "func(x, y *float32, n int, t *[21]float64)", "is add without z for n elements, a multiple of 4, not 0."
	if own {
		sig, doc = "func(x, y, z *float32, n int, t *[21]float64)", "is add for n elements, a multiple of 4, not 0."
	}
	emit.Begin(name, sig, doc)
	x, y, n, t := Load(Param("x"), GP64()), Load(Param("y"), GP64()), Load(Param("n"), GP64()), Load(Param("t"), GP64())
	var z reg.Register
	count := 2
	if own {
		z, count = Load(Param("z"), GP64()), 5
	}
	sums := make([]reg.VecVirtual, count)
	for i := range sums {
		sums[i] = YMM()
		VMOVUPD(Mem{Base: t}.Offset(32*i), sums[i])
	}
	top := YMM()
	VBROADCASTSD(Mem{Base: t}.Offset(160), top)
	square := func(v reg.VecVirtual, i int) {
		s := YMM()
		VMULPD(v, v, s)
		VADDPD(s, sums[i], sums[i])
	}
	at := GP64()
	XORQ(at, at)
	Label("loop")
	wide := func(base reg.Register) reg.VecVirtual {
		v := YMM()
		VCVTPS2PD(Mem{Base: base, Index: at, Scale: 4}, v)
		return v
	}
	p, q := wide(x), wide(y)
	square(p, 0)
	d, same, a, b := YMM(), YMM(), YMM(), YMM()
	VSUBPD(p, q, d)
	VCMPPD(Imm(equal), p, q, same) // infinities of one sign, whose difference is NaN
	VCMPPD(Imm(unordered), p, p, a)
	VCMPPD(Imm(unordered), q, q, b)
	VANDPD(a, b, a)
	VORPD(a, same, same)
	VANDNPD(d, same, d)
	VANDPD(magnitude, d, a)
	VMAXPD(top, a, top) // top where the difference is NaN
	square(d, 1)
	if own {
		w := wide(z)
		square(w, 2)
		g, h := YMM(), YMM()
		VSUBPD(p, w, g)
		square(g, 3)
		VSUBPD(w, q, h)
		square(h, 4)
	}
	ADDQ(Imm(4), at)
	CMPQ(at, n)
	JNE(LabelRef("loop"))
	for i := range sums {
		VMOVUPD(sums[i], Mem{Base: t}.Offset(32*i))
	}
	hi, lo := XMM(), XMM()
	VEXTRACTF128(Imm(1), top, hi)
	VMAXPD(hi, top.AsX(), hi)
	VPERMILPD(Imm(1), hi, lo)
	VMAXSD(lo, hi, hi)
	VMOVSD(hi, Mem{Base: t}.Offset(160))
	emit.End()
}
