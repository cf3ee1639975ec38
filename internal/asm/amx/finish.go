package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"github.com/glmconv/glmconv/internal/asm/emit"
)

// scaled adds the sums of a scale group to the results, tokens side by side.
func scaled(integer bool) {
	name, doc := "amxScaledFloat", "writes acc[i][j] = (acc[i][j] + sums[i][j]·(scale[i]·token[j]))·last[j]"
	if integer {
		name, doc = "amxScaledInt8", "writes acc[i][j] = (acc[i][j] + float32(sums[i][j])·scale[i])·last[j]"
	}
	emit.Begin(name, "func(acc *float32, sums *byte, rows, cols, ld int, scale, token, last *float32, add int)",
		doc+", without add as if acc were −0, every product and sum rounded, for rows of cols elements, a multiple of 16, not 0, ld elements apart.")
	acc, sums, scale := Load(Param("acc"), GP64()), Load(Param("sums"), GP64()), Load(Param("scale"), GP64())
	m, cols, ld := Load(Param("rows"), GP64()), Load(Param("cols"), GP64()), Load(Param("ld"), GP64())
	last := Load(Param("last"), GP64())
	token := last
	if !integer {
		token = Load(Param("token"), GP64())
	}
	add := Load(Param("add"), GP64())
	old, zero, bits := K(), ZMM(), GP32()
	NEGQ(add) // all ones, or none
	KMOVW(add.(reg.GPVirtual).As32(), old)
	MOVL(U32(1<<31), bits)
	VPBROADCASTD(bits, zero) // −0, which is added without a trace
	SHLQ(Imm(2), ld)
	j := GP64()
	Label("row")
	s := ZMM()
	VBROADCASTSS(Mem{Base: scale}, s)
	XORQ(j, j)
	Label("col")
	v, a := ZMM(), ZMM()
	at := func(base reg.Register) Mem { return Mem{Base: base, Index: j, Scale: 4} }
	if integer {
		VCVTDQ2PS(at(sums), v)
		VMULPS(s, v, v)
	} else {
		VMULPS(at(token), s, v)
		VMULPS(at(sums), v, v)
	}
	VMOVAPS(zero, a)
	VMOVUPS(at(acc), old, a)
	VADDPS(a, v, v)
	VMULPS(at(last), v, v)
	VMOVUPS(v, at(acc))
	ADDQ(Imm(16), j)
	CMPQ(j, cols)
	JL(LabelRef("col"))
	ADDQ(ld, acc)
	ADDQ(ld, sums)
	ADDQ(Imm(4), scale)
	DECQ(m)
	JNZ(LabelRef("row"))
	emit.End()
}
