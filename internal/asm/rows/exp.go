package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// table holds eight copies of each constant, by name.
var table = map[string]Mem{}

func constants() {
	t := GLOBL("rowConstants", RODATA|NOPTR)
	at := 0
	put := func(name string, bits uint32) {
		for i := range 8 {
			DATA(at+4*i, U32(bits))
		}
		table[name] = t.Offset(at)
		at += 32
	}
	for _, c := range []struct {
		name string
		v    float32
	}{
		{"log2e", 1.44269504088896341}, {"magic", 3 << 22}, {"hi", 0.693359375}, {"lo", -2.12194440e-4},
		{"least", -87.33654}, {"most", 88.722839355469}, {"c7", 1.0 / 5040}, {"c6", 1.0 / 720}, {"c5", 1.0 / 120},
		{"c4", 1.0 / 24}, {"c3", 1.0 / 6}, {"half", 0.5}, {"one", 1}, {"inf", float32(math.Inf(1))},
		{"-128", -128}, {"127", 127},
	} {
		put(c.name, math.Float32bits(c.v))
	}
	put("bias", 127)
	put("sign", 1<<31)
}

// exp is kernel.Exp, step by step.
func exp(x reg.VecVirtual) reg.VecVirtual {
	n, r, t, p := YMM(), YMM(), YMM(), YMM()
	VMULPS(table["log2e"], x, n)
	VADDPS(table["magic"], n, n)
	VSUBPS(table["magic"], n, n)
	VMULPS(table["hi"], n, t)
	VSUBPS(t, x, r)
	VMULPS(table["lo"], n, t)
	VSUBPS(t, r, r)
	VMOVUPS(table["c7"], p)
	for _, c := range []string{"c6", "c5", "c4", "c3", "half"} {
		VMULPS(r, p, p)
		VADDPS(table[c], p, p)
	}
	VMULPS(r, p, p)
	VMULPS(r, p, p)
	VADDPS(r, p, p)
	VADDPS(table["one"], p, p)
	// 2^n in two factors, the first with n/2 rounded towards zero.
	k, h := YMM(), YMM()
	VCVTTPS2DQ(n, k)
	VPSRLD(Imm(31), k, h)
	VPADDD(k, h, h)
	VPSRAD(Imm(1), h, h)
	VPSUBD(h, k, k)
	for _, f := range []reg.VecVirtual{h, k} {
		VPADDD(table["bias"], f, f)
		VPSLLD(Imm(23), f, f)
		VMULPS(f, p, p)
	}
	VCMPPS(Imm(0x11), table["least"], x, t) // x < least
	VANDNPS(p, t, p)
	VCMPPS(Imm(0x1e), table["most"], x, t) // x > most
	VMOVUPS(table["inf"], r)
	VBLENDVPS(t, r, p, p)
	VCMPPS(Imm(3), x, x, t) // NaN
	VBLENDVPS(t, x, p, p)
	return p
}

func swiglu() {
	load := text("swigluAVX2", "dst, gate, up *float32, n int", "", "writes gate/(1+exp(−gate))·up; n is a multiple of 8, not 0")
	dst, gate, up, n := load("dst"), load("gate"), load("up"), load("n")
	loop(n, 8, func() {
		z, x := YMM(), YMM()
		VMOVUPS(Mem{Base: gate}, z)
		VXORPS(table["sign"], z, x)
		e := exp(x)
		VADDPS(table["one"], e, e)
		VDIVPS(e, z, e)
		VMULPS(Mem{Base: up}, e, e)
		VMOVUPS(e, Mem{Base: dst})
		advance(32, dst, gate, up)
	})
	emit.End()
}

func expSum() {
	load := text("expSumAVX2", "x *float32, n int, top float32, lanes *[8]float32", "",
		"replaces x by exp(x − top) and adds the results to the lanes; n is a multiple of 8, not 0")
	x, n, out := load("x"), load("n"), load("lanes")
	top := emit.Broadcast("top", YMM())
	acc := YMM()
	VMOVUPS(Mem{Base: out}, acc)
	loop(n, 8, func() {
		v := YMM()
		VMOVUPS(Mem{Base: x}, v)
		VSUBPS(top, v, v)
		e := exp(v)
		VADDPS(e, acc, acc)
		VMOVUPS(e, Mem{Base: x})
		advance(32, x)
	})
	VMOVUPS(acc, Mem{Base: out})
	emit.End()
}
