//go:build !purego

package numeric

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

// vector tells whether the NEON twins of the leaf loops run: they return the
// same bits (internal/asm/neon).
var vector = cpu.Current() >= cpu.NEON

// encodeRunVector does the whole chunks of encode, or all of it where that is
// whole vectors, and returns how many weights that is.
func encodeRunVector(dst []byte, w []float32, code Code, by divide, factor, s float32, sum *runError) (done int) {
	done = len(w)
	if done%lanes != 0 {
		done &^= chunkLen - 1
	}
	if !vector || done == 0 {
		return 0
	}
	_ = dst[done-1]
	lo, hi := limits(code)
	from := (*byte)(unsafe.Pointer(&w[0]))
	switch { // direct calls: sum stays on the stack
	case code == E4M3 && by == byReciprocal:
		encodeE4M3ReciprocalNEON(&dst[0], from, done, factor, s, &sum.sumSq)
	case code == E4M3 && by == exactQuotient:
		encodeE4M3QuotientNEON(&dst[0], from, done, factor, s, &sum.sumSq)
	case code == E4M3:
		encodeE4M3BF16QuotientNEON(&dst[0], from, done, factor, s, &sum.sumSq)
	case by == byReciprocal:
		encodeIntReciprocalNEON(&dst[0], from, done, factor, s, lo, hi, &sum.sumSq)
	case by == exactQuotient:
		encodeIntQuotientNEON(&dst[0], from, done, factor, s, lo, hi, &sum.sumSq)
	default:
		encodeIntBF16QuotientNEON(&dst[0], from, done, factor, s, lo, hi, &sum.sumSq)
	}
	return done
}

// dequantInt8Vector has no twin: conversion does not use it.
func dequantInt8Vector([]float32, []byte, float32) int { return 0 }

// Nor have dequantE4M3Vector, dequantE2M1Vector and narrowBF16Vector: they are
// for quantized sources.
func dequantE4M3Vector([]float32, []byte, float32) int { return 0 }

func dequantE2M1Vector([]float32, []byte, int, []float32) int { return 0 }

func narrowBF16Vector([]byte, []float32) int { return 0 }

// bf16 tells whether weights are rounded straight from bfloat16.
func bf16() bool { return vector }

// The kernels that vector.go calls.

func absMaxBitsKernel(w *float32, n int) uint32         { return absMaxBitsNEON(w, n) }
func absMaxBF16Kernel(w *byte, n int) uint32            { return absMaxBF16NEON(w, n) }
func decodeBF16Kernel(dst *float32, src *byte, n int)   { decodeBF16NEON(dst, src, n) }
func indexAbsKernel(w *float32, n int, bits uint32) int { return indexAbsNEON(w, n, bits) }
func packNibblesKernel(dst, q *byte, n int)             { packNibblesNEON(dst, q, n) }
func unpackNibblesKernel(dst, src *byte, n int)         { unpackNibblesNEON(dst, src, n) }

func correlateKernel(w *float32, n int, r *float32, m int, out *float32) {
	correlateManyNEON(w, n, r, m, out)
}

func encodeE4M3BF16Kernel(dst, raw *byte, n int, factor, s float32, sum *float64) {
	encodeE4M3BF16NEON(dst, raw, n, factor, s, sum)
}

func encodeIntBF16Kernel(dst, raw *byte, n int, factor, s, lo, hi float32, sum *float64) {
	encodeIntBF16NEON(dst, raw, n, factor, s, lo, hi, sum)
}

func encodeBlockKernel(dst, raw *byte, n, cols int, factor, s float32, sum *float64) {
	encodeE4M3BF16BlockNEON(dst, raw, n, cols, factor, s, sum)
}
