//go:build (amd64 || arm64) && !purego

package numeric

// absMaxBitsVector does the part of absMaxBits that is whole vectors and
// returns how many elements that is.
func absMaxBitsVector(w []float32) (top uint32, done int) {
	if done = len(w) &^ (lanes - 1); !vector || done == 0 {
		return 0, 0
	}
	return absMaxBitsKernel(&w[0], done), done
}

func decodeBF16Vector(dst []float32, src []byte) (done int) {
	if done = len(dst) &^ (lanes - 1); !vector || done == 0 {
		return 0
	}
	_ = src[2*done-1]
	decodeBF16Kernel(&dst[0], &src[0], done)
	return done
}

// takesBF16 tells whether absMaxBF16 and encodeBF16 take n weights.
func takesBF16(n int) bool { return bf16() && n > 0 && n%32 == 0 }

func absMaxBF16(raw []byte) uint32 { return absMaxBF16Kernel(&raw[0], len(raw)/2) }

// encodeBF16 is encode by the reciprocal factor of the scale s.
func encodeBF16(dst, raw []byte, code Code, factor, s float32) (sum runError) {
	_ = dst[len(raw)/2-1]
	if code == E4M3 {
		encodeE4M3BF16Kernel(&dst[0], &raw[0], len(raw)/2, factor, s, &sum.sumSq)
	} else {
		lo, hi := limits(code)
		encodeIntBF16Kernel(&dst[0], &raw[0], len(raw)/2, factor, s, lo, hi, &sum.sumSq)
	}
	return sum
}

// encodeBlock is encodeBF16 to E4M3 for a block of 128 columns of rows, an even
// number, in matrices of cols; raw and dst begin at its first weight.
func encodeBlock(dst, raw []byte, rows, cols int, factor, s float32) (sum runError) {
	last := (rows-1)*cols + blockWidth
	_, _ = dst[last-1], raw[2*last-1]
	encodeBlockKernel(&dst[0], &raw[0], rows*blockWidth, cols, factor, s, &sum.sumSq)
	return sum
}

// correlateVector does correlate for a chunk of whole vectors.
func correlateVector(w, r []float32, out *[2 * maxCandidates]float32) bool {
	if !vector || len(w) == 0 || len(w)%lanes != 0 || len(r) == 0 {
		return false
	}
	_ = out[2*len(r)-1]
	correlateKernel(&w[0], len(w), &r[0], len(r), &out[0])
	return true
}

// indexAbsVector finds a magnitude among the whole vectors of w, or returns
// where they end.
func indexAbsVector(w []float32, bits uint32) int {
	n := len(w) &^ 7
	if !vector || n == 0 {
		return 0
	}
	return indexAbsKernel(&w[0], n, bits)
}

// packNibblesVector packs the part of a row that is whole vectors and returns
// how many codes that is.
func packNibblesVector(dst, q []byte) (done int) {
	if done = len(q) &^ 31; !vector || done == 0 {
		return 0
	}
	_ = dst[done/2-1]
	packNibblesKernel(&dst[0], &q[0], done)
	return done
}

// unpackNibblesVector does the whole vectors of UnpackInt4 and returns how many
// bytes of src that is; dst has twice as many.
func unpackNibblesVector(dst, src []byte) (done int) {
	if done = len(src) &^ 15; !vector || done == 0 {
		return 0
	}
	_ = dst[2*done-1]
	unpackNibblesKernel(&dst[0], &src[0], done)
	return done
}
