package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// codeSums has a reciprocal of a scale in each lane, so that every sum has the order
// of the plain loop.
func codeSums() {
	load := text("codeSumsAVX2", "wq, qq, inv *[8]float32, w, h *float32, n int, lo, hi float32", "",
		"writes Σhwq and Σhq² of the codes q under eight reciprocals of scales; n is not 0")
	wq, qq, invs, w, h, n := load("wq"), load("qq"), load("inv"), load("w"), load("h"), load("n")
	lo, hi, inv, magic := emit.Broadcast("lo", YMM()), emit.Broadcast("hi", YMM()), YMM(), YMM()
	VMOVUPS(Mem{Base: invs}, inv)
	VMOVUPS(emit.Lanes(0x4b400000, 8), magic)
	a, b := YMM(), YMM()
	emit.Zero(a)
	emit.Zero(b)
	loop(n, 1, func() {
		v, q, p := YMM(), YMM(), YMM()
		VBROADCASTSS(Mem{Base: w}, v)
		VBROADCASTSS(Mem{Base: h}, p)
		VMULPS(inv, v, q)
		VMAXPS(lo, q, q)
		VMINPS(hi, q, q)
		VADDPS(magic, q, q)
		VSUBPS(magic, q, q)
		VMULPS(q, p, p)
		VMULPS(v, p, v)
		VADDPS(v, a, a)
		VMULPS(q, p, p)
		VADDPS(p, b, b)
		advance(4, w, h)
	})
	VMOVUPS(a, Mem{Base: wq})
	VMOVUPS(b, Mem{Base: qq})
	emit.End()
}
