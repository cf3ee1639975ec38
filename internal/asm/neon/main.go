// Command neon generates the arm64 twins of quant/numeric's leaf loops.
//
// They return the same bits as the plain loops: the same sixteen lanes, every
// product and sum rounded by itself (nothing is fused), the same rounding to
// codes. Sixteen elements are four vectors. The instructions are those that every
// arm64 processor has (ARMv8.0).
package main

import "github.com/glmconv/glmconv/internal/asm/arm64"

func main() {
	arm64.Main("go run ./neon", func(f *arm64.File) {
		absMax(f)
		absMaxBF16(f)
		decodeBF16(f)
		for _, by := range []string{"Reciprocal", "Quotient", "BF16Quotient"} {
			encode(f, run{code: "Int", dtype: "F32", by: by})
			encode(f, run{code: "E4M3", dtype: "F32", by: by})
		}
		encode(f, run{code: "Int", dtype: "BF16", by: "Reciprocal"})
		encode(f, run{code: "E4M3", dtype: "BF16", by: "Reciprocal"})
		encode(f, run{code: "E4M3", dtype: "BF16", by: "Reciprocal", block: true})
		correlateMany(f)
		indexAbs(f)
		packNibbles(f)
		unpackNibbles(f)
	})
}

// The general registers of all kernels.
const (
	dst, src, count = arm64.R(0), arm64.R(1), arm64.R(2)
	left, tmp       = arm64.R(5), arm64.R(9)
)

// absMax is the largest magnitude: sign bits cleared, patterns compared as
// unsigned numbers.
func absMax(file *arm64.File) {
	f := file.Func("absMaxBitsNEON", "w *float32, n int", "uint32", "is absMaxBits of n elements, a multiple of sixteen.")
	f.Args(src, count)
	top, t := f.Vs(4), f.Vs(4)
	f.Zero(top...)
	f.Label("loop")
	f.Load(src.Post(32), t[0], t[1])
	f.Load(src.Post(32), t[2], t[3])
	for i := range t {
		f.S4("fabs", t[i], t[i])
	}
	for i := range t {
		f.S4("umax", top[i], top[i], t[i])
	}
	f.Go("SUBS $16, %s", count)
	f.Loop("BNE", "loop", 16)
	greatest(f.S4, top)
	f.Op("umaxv", top[0].S(), top[0].S4())
	f.Op("fmov", tmp.W(), top[0].S())
	f.Go("MOVW %s, %s", tmp, f.Param("ret"))
	f.Go("RET")
}

// greatest leaves the greatest of each lane of four vectors in the first.
func greatest(op func(mnemonic string, v ...arm64.V), v []arm64.V) {
	op("umax", v[0], v[0], v[1])
	op("umax", v[2], v[2], v[3])
	op("umax", v[0], v[0], v[2])
}

// absMaxBF16 is absMax of bfloat16 weights.
func absMaxBF16(file *arm64.File) {
	f := file.Func("absMaxBF16NEON", "w *byte, n int", "uint32", "returns the bits of the largest magnitude of n bfloat16 weights, a multiple of thirty-two.")
	f.Args(src, count)
	top, t := f.Vs(4), f.Vs(4)
	f.Zero(top...)
	f.Label("loop")
	f.Load(src.Post(32), t[0], t[1])
	f.Load(src.Post(32), t[2], t[3])
	for i := range t {
		f.Op("bic", t[i].H8(), arm64.Imm(0x80), arm64.High8)
	}
	for i := range t {
		f.H8("umax", top[i], top[i], t[i])
	}
	f.Go("SUBS $32, %s", count)
	f.Loop("BNE", "loop", 32)
	greatest(f.H8, top)
	f.Op("umaxv", top[0].H(), top[0].H8())
	f.Op("fmov", tmp.W(), top[0].S())
	f.Go("LSLW $16, %s", tmp)
	f.Go("MOVW %s, %s", tmp, f.Param("ret"))
	f.Go("RET")
}

// widen makes floats of sixteen bfloat16 values: they are their upper halves.
func widen(f *arm64.Func, halves [2]arm64.V, w [4]arm64.V) {
	for i, h := range halves {
		f.Op("shll", w[2*i].S4(), h.H4(), arm64.Imm(16))
		f.Op("shll2", w[2*i+1].S4(), h.H8(), arm64.Imm(16))
	}
}

func decodeBF16(file *arm64.File) {
	f := file.Func("decodeBF16NEON", "dst *float32, src *byte, n int", "", "widens n bfloat16 values, a multiple of sixteen.")
	f.Args(dst, src, count)
	halves, w := [2]arm64.V(f.Vs(2)), [4]arm64.V(f.Vs(4))
	f.Label("loop")
	f.Load(src.Post(32), halves[:]...)
	widen(f, halves, w)
	f.Store(dst.Post(32), w[0], w[1])
	f.Store(dst.Post(32), w[2], w[3])
	f.Go("SUBS $16, %s", count)
	f.Loop("BNE", "loop", 16)
	f.Go("RET")
}

// indexAbs finds a magnitude: eight comparisons become eight bytes of ones or
// zeros, whose lowest bit that is set tells which was the first.
func indexAbs(file *arm64.File) {
	f := file.Func("indexAbsNEON", "w *float32, n int, bits uint32", "int",
		"returns the first of n weights, a multiple of eight, whose magnitude has these bits, or n.")
	f.Args(src, count)
	at := arm64.R(3)
	f.Go("MOVWU %s, %s", f.Param("bits"), tmp)
	want, t := f.V(), f.Vs(2)
	f.Op("dup", want.S4(), tmp.W())
	f.Go("MOVD ZR, %s", at)
	f.Label("loop")
	f.Load(src.Post(32), t...)
	for i := range t {
		f.S4("fabs", t[i], t[i])
	}
	for i := range t {
		f.S4("cmeq", t[i], t[i], want)
	}
	f.H8("uzp1", t[0], t[0], t[1])
	f.Op("xtn", t[0].B8(), t[0].H8())
	f.Op("fmov", tmp.X(), t[0].D())
	f.Go("CBNZ %s, found", tmp)
	f.Go("ADD $8, %s", at)
	f.Go("CMP %s, %s", count, at)
	f.Loop("BLT", "loop", 8)
	f.Go("MOVD %s, %s", at, f.Param("ret"))
	f.Go("RET")
	f.Label("found")
	f.Go("RBIT %s, %s", tmp, tmp)
	f.Go("CLZ %s, %s", tmp, tmp)
	f.Go("ADD %s>>3, %s, %s", tmp, at, at)
	f.Go("MOVD %s, %s", at, f.Param("ret"))
	f.Go("RET")
}

// packNibbles makes bytes of pairs of codes, the first in the low half: the
// second ones are shifted into the bytes of the first.
func packNibbles(file *arm64.File) {
	f := file.Func("packNibblesNEON", "dst *byte, q *byte, n int", "", "packs n codes, a multiple of 32.")
	f.Args(dst, src, count)
	t := f.Vs(2)
	f.Label("loop")
	f.Op("ld2", append([]arm64.Operand{arm64.Pair(t[0], t[1])}, src.Post(32)...)...)
	f.Op("sli", t[0].B16(), t[1].B16(), arm64.Imm(4))
	f.Store(dst.Post(16), t[0])
	f.Go("SUBS $32, %s", count)
	f.Loop("BNE", "loop", 32)
	f.Go("RET")
}

// unpackNibbles makes two sign-extended bytes of every byte, the low half first.
func unpackNibbles(file *arm64.File) {
	f := file.Func("unpackNibblesNEON", "dst *byte, src *byte, n int", "", "writes the 2n codes of n bytes, a multiple of 16.")
	f.Args(dst, src, count)
	lo, hi := f.V(), f.V()
	f.Label("loop")
	f.Load(src.Post(16), lo)
	f.Op("sshr", hi.B16(), lo.B16(), arm64.Imm(4))
	f.Op("shl", lo.B16(), lo.B16(), arm64.Imm(4))
	f.Op("sshr", lo.B16(), lo.B16(), arm64.Imm(4))
	f.Op("st2", append([]arm64.Operand{arm64.Pair(lo, hi)}, dst.Post(32)...)...)
	f.Go("SUBS $16, %s", count)
	f.Loop("BNE", "loop", 32)
	f.Go("RET")
}
