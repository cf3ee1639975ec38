//go:build !purego

package numeric

import (
	"unsafe"

	"github.com/glmconv/glmconv/internal/cpu"
)

// vector tells whether the AVX2 twins of the leaf loops run: they return the
// same bits (internal/asm/convert).
var vector = cpu.Current() >= cpu.AVX2

// wide tells whether the AVX-512 ones run where there are any.
var wide = cpu.Current() >= cpu.AVX512

// sums are the lanes that the twins of encode add to.
type sums [40]float32

func (s *sums) squares() *laneSum { return (*laneSum)(s[:lanes]) }
func (s *sums) errors() *laneSum  { return (*laneSum)(s[lanes : 2*lanes]) }

// worst is the bit pattern of the largest error.
func (s *sums) worst() (top uint32) {
	for _, v := range (*[8]uint32)(unsafe.Pointer(&s[2*lanes])) {
		top = max(top, v)
	}
	return top
}

// encodeChunkVector does the whole vectors of a chunk of encode.
func encodeChunkVector(dst []byte, w []float32, code Code, by divide, factor, s float32, out *sums) (done int) {
	if done = len(w) &^ (lanes - 1); !vector || done == 0 {
		return 0
	}
	_ = dst[done-1]
	lo, hi := limits(code)
	acc := (*[40]float32)(out)
	switch { // direct calls: out stays on the stack
	case code == E4M3 && by == byReciprocal:
		encodeE4M3ReciprocalAVX2(&dst[0], &w[0], done, factor, s, lo, hi, acc)
	case code == E4M3 && by == exactQuotient:
		encodeE4M3QuotientAVX2(&dst[0], &w[0], done, factor, s, lo, hi, acc)
	case code == E4M3:
		encodeE4M3BF16QuotientAVX2(&dst[0], &w[0], done, factor, s, lo, hi, acc)
	case by == byReciprocal:
		encodeIntReciprocalAVX2(&dst[0], &w[0], done, factor, s, lo, hi, acc)
	case by == exactQuotient:
		encodeIntQuotientAVX2(&dst[0], &w[0], done, factor, s, lo, hi, acc)
	default:
		encodeIntBF16QuotientAVX2(&dst[0], &w[0], done, factor, s, lo, hi, acc)
	}
	return done
}

// encodeRunVector does the whole chunks of encode, or all of it where that is
// whole vectors, and returns how many weights that is.
func encodeRunVector(dst []byte, w []float32, code Code, by divide, factor, s float32, sum *runError) (done int) {
	done = len(w)
	if done%lanes != 0 {
		done &^= chunkLen - 1
	}
	if !vector || by != byReciprocal || done == 0 {
		return 0
	}
	_ = dst[done-1]
	lo, hi := limits(code)
	from := (*byte)(unsafe.Pointer(&w[0]))
	switch { // direct calls: sum stays on the stack
	case wide && code == E4M3:
		encodeE4M3F32AVX512(&dst[0], from, done, factor, s, lo, hi, &sum.sumSq)
	case wide:
		encodeIntF32AVX512(&dst[0], from, done, factor, s, lo, hi, &sum.sumSq)
	case code == E4M3:
		encodeE4M3F32AVX2(&dst[0], from, done, factor, s, lo, hi, &sum.sumSq)
	default:
		encodeIntF32AVX2(&dst[0], from, done, factor, s, lo, hi, &sum.sumSq)
	}
	return done
}

// dequantInt8Vector widens the codes that fill whole vectors, times s, and
// returns how many those are.
func dequantInt8Vector(dst []float32, codes []byte, s float32) (done int) {
	if done = len(codes) &^ (lanes - 1); !vector || done == 0 {
		return 0
	}
	_ = dst[done-1]
	dequantInt8AVX2(&dst[0], &codes[0], done, s)
	return done
}

// dequantE4M3Vector widens codes that fill whole vectors, times s, and returns
// how many: those before the sixteen with the first that is no number. Scales
// that 256 times as large are beyond float32 are not its.
func dequantE4M3Vector(dst []float32, codes []byte, s float32) (done int) {
	if done = len(codes) &^ (lanes - 1); !vector || done == 0 || !(s < 0x1p119 && s > -0x1p119) {
		return 0
	}
	_ = dst[done-1]
	return dequantE4M3AVX2(&dst[0], &codes[0], done, 256*s)
}

// dequantE2M1Vector widens groups of size codes times their scales, if size is
// whole vectors, and returns how many groups.
func dequantE2M1Vector(dst []float32, codes []byte, size int, scales []float32) (done int) {
	done = len(dst) / size
	if !vector || size%lanes != 0 || done == 0 {
		return 0
	}
	_, _ = codes[done*size/2-1], scales[done-1]
	dequantE2M1AVX2(&dst[0], &codes[0], done, size, &scales[0])
	return done
}

// narrowBF16Vector rounds numbers that fill whole vectors to bfloat16 and
// returns how many: those before the sixteen with the first NaN.
func narrowBF16Vector(dst []byte, src []float32) (done int) {
	if done = len(src) &^ (lanes - 1); !vector || done == 0 {
		return 0
	}
	_ = dst[2*done-1]
	return narrowBF16AVX2(&dst[0], &src[0], done)
}

// bf16 tells whether weights are rounded straight from bfloat16.
func bf16() bool { return vector }

// The kernels that vector.go calls.

func absMaxBitsKernel(w *float32, n int) uint32         { return absMaxBitsAVX2(w, n) }
func decodeBF16Kernel(dst *float32, src *byte, n int)   { decodeBF16AVX2(dst, src, n) }
func indexAbsKernel(w *float32, n int, bits uint32) int { return indexAbsAVX2(w, n, bits) }
func packNibblesKernel(dst, q *byte, n int)             { packNibblesAVX2(dst, q, n) }
func unpackNibblesKernel(dst, src *byte, n int)         { unpackNibblesAVX2(dst, src, n) }

func correlateKernel(w *float32, n int, r *float32, m int, out *float32) {
	if wide {
		correlateManyAVX512(w, n, r, m, out)
	} else {
		correlateManyAVX2(w, n, r, m, out)
	}
}

func absMaxBF16Kernel(w *byte, n int) uint32 {
	if wide {
		return absMaxBF16AVX512(w, n)
	}
	return absMaxBF16AVX2(w, n)
}

func encodeE4M3BF16Kernel(dst, raw *byte, n int, factor, s float32, sum *float64) {
	if wide {
		encodeE4M3BF16AVX512(dst, raw, n, factor, s, 0, 0, sum)
	} else {
		encodeE4M3BF16AVX2(dst, raw, n, factor, s, 0, 0, sum)
	}
}

func encodeIntBF16Kernel(dst, raw *byte, n int, factor, s, lo, hi float32, sum *float64) {
	if wide {
		encodeIntBF16AVX512(dst, raw, n, factor, s, lo, hi, sum)
	} else {
		encodeIntBF16AVX2(dst, raw, n, factor, s, lo, hi, sum)
	}
}

func encodeBlockKernel(dst, raw *byte, n, cols int, factor, s float32, sum *float64) {
	if wide {
		encodeE4M3BF16BlockAVX512(dst, raw, n, cols, factor, s, 0, 0, sum)
	} else {
		encodeE4M3BF16BlockAVX2(dst, raw, n, cols, factor, s, 0, 0, sum)
	}
}
