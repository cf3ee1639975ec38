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

// absMaxBitsVector does the part of absMaxBits that is whole vectors and
// returns how many elements that is.
func absMaxBitsVector(w []float32) (top uint32, done int) {
	if done = len(w) &^ (lanes - 1); !vector || done == 0 {
		return 0, 0
	}
	return absMaxBitsAVX2(&w[0], done), done
}

func decodeBF16Vector(dst []float32, src []byte) (done int) {
	if done = len(dst) &^ (lanes - 1); !vector || done == 0 {
		return 0
	}
	_ = src[2*done-1]
	decodeBF16AVX2(&dst[0], &src[0], done)
	return done
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
	if !wide || by != byReciprocal || done == 0 {
		return 0
	}
	_ = dst[done-1]
	lo, hi := limits(code)
	if code == E4M3 {
		encodeE4M3F32AVX512(&dst[0], (*byte)(unsafe.Pointer(&w[0])), done, factor, s, lo, hi, &sum.sumSq)
	} else {
		encodeIntF32AVX512(&dst[0], (*byte)(unsafe.Pointer(&w[0])), done, factor, s, lo, hi, &sum.sumSq)
	}
	return done
}

// takesBF16 tells whether absMaxBF16 and encodeBF16 take n weights.
func takesBF16(n int) bool { return wide && n > 0 && n%32 == 0 }

func absMaxBF16(raw []byte) uint32 { return absMaxBF16AVX512(&raw[0], len(raw)/2) }

// encodeBF16 is encode by the reciprocal factor of the scale s.
func encodeBF16(dst, raw []byte, code Code, factor, s float32) (sum runError) {
	_ = dst[len(raw)/2-1]
	lo, hi := limits(code)
	if code == E4M3 {
		encodeE4M3BF16AVX512(&dst[0], &raw[0], len(raw)/2, factor, s, lo, hi, &sum.sumSq)
	} else {
		encodeIntBF16AVX512(&dst[0], &raw[0], len(raw)/2, factor, s, lo, hi, &sum.sumSq)
	}
	return sum
}

// encodeBlock is encodeBF16 to E4M3 for a block of 128 columns of rows, an even
// number, in matrices of cols; raw and dst begin at its first weight.
func encodeBlock(dst, raw []byte, rows, cols int, factor, s float32) (sum runError) {
	last := (rows-1)*cols + blockWidth
	_, _ = dst[last-1], raw[2*last-1]
	encodeE4M3BF16BlockAVX512(&dst[0], &raw[0], rows*blockWidth, cols, factor, s, 0, 0, &sum.sumSq)
	return sum
}

// correlateVector does correlate for a chunk of whole vectors.
func correlateVector(w, r []float32, out *[2 * maxCandidates]float32) bool {
	if !vector || len(w) == 0 || len(w)%lanes != 0 || len(r) == 0 {
		return false
	}
	_ = out[2*len(r)-1]
	if wide {
		correlateManyAVX512(&w[0], len(w), &r[0], len(r), &out[0])
	} else {
		correlateManyAVX2(&w[0], len(w), &r[0], len(r), &out[0])
	}
	return true
}

// indexAbsVector finds a magnitude among the whole vectors of w, or returns
// where they end.
func indexAbsVector(w []float32, bits uint32) int {
	n := len(w) &^ 7
	if !vector || n == 0 {
		return 0
	}
	return indexAbsAVX2(&w[0], n, bits)
}

// packNibblesVector packs the part of a row that is whole vectors and returns
// how many codes that is.
func packNibblesVector(dst, q []byte) (done int) {
	if done = len(q) &^ 31; !vector || done == 0 {
		return 0
	}
	_ = dst[done/2-1]
	packNibblesAVX2(&dst[0], &q[0], done)
	return done
}

// unpackNibblesVector does the whole vectors of UnpackInt4 and returns how many
// bytes of src that is; dst has twice as many.
func unpackNibblesVector(dst, src []byte) (done int) {
	if done = len(src) &^ 15; !vector || done == 0 {
		return 0
	}
	_ = dst[2*done-1]
	unpackNibblesAVX2(&dst[0], &src[0], done)
	return done
}
