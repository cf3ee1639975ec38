package numeric

// QuantizeMatrix is Quantize for weights that are quantized already, m: they are
// widened a row at a time, and E4M3 codes on their way to others.
func QuantizeMatrix(spec Spec, m *Matrix, scratch *Scratch) (*Matrix, Stats, error) {
	return quantize(spec, weights{stored: m}, m.Rows, m.Cols, scratch)
}

// scaling are the scales of a run of E4M3 codes, one for each block of 128, or
// one for all.
type scaling struct{ scales []float32 }

// of is the scale of a block.
func (s scaling) of(block int) float32 {
	if len(s.scales) == 1 {
		return s.scales[0]
	}
	return s.scales[block]
}

// decode writes the first codes, which are numbers, times their scales.
func (s scaling) decode(dst []float32, codes []byte) {
	for at := s.decodeVector(dst, codes); at < len(dst); at += blockWidth {
		end := min(at+blockWidth, len(dst))
		dequantE4M3(dst[at:end], codes[at:end], s.of(at/blockWidth))
	}
}

// codesSpan returns n weights from element at on as codes if there are kernels
// that take them so: E4M3 in a part of a row, with a scale for each 128 columns or
// one for the row. Scales must be positive, and 256 times as large a number.
func (x *Scratch) codesSpan(at, n int) (span, bool) {
	m := x.src.stored
	if m == nil || m.Code != E4M3 || !m.Plain() || x.spec.Arith != Best || !takesCodes(n) {
		return span{}, false
	}
	r, c := at/m.Cols, at%m.Cols
	scales := m.Scales[r/m.BlockRows*m.ScaleCols():][:m.ScaleCols()]
	switch {
	case c+n > m.Cols:
		return span{}, false
	case m.BlockCols == blockWidth && c%blockWidth == 0:
		scales = scales[c/blockWidth:][:n/blockWidth]
	case m.BlockCols < m.Cols:
		return span{}, false
	}
	for _, s := range scales {
		if !(s > 0 && s < 0x1p119) {
			return span{}, false
		}
	}
	return span{codes: m.Codes[at:][:n], scaling: scaling{scales}}, true
}

// widened is how many codes are widened at once on their way to others, a multiple
// of chunkLen and blockWidth: they stay in the innermost cache.
const widened = 8 * chunkLen

// encodeCodes is encode by the reciprocal factor of the scale s, of weights that
// are codes times scales.
func (x *Scratch) encodeCodes(dst, codes []byte, of scaling, code Code, factor, s float32) (sum runError) {
	x.floats = resize(x.floats, widened)
	for at := 0; at < len(codes); at += widened {
		end := min(at+widened, len(codes))
		w := x.floats[:end-at]
		of.from(at/blockWidth).decode(w, codes[at:end])
		encodeRunVector(dst[at:], w, code, byReciprocal, factor, s, &sum)
	}
	return sum
}

// from are the scales from a block on.
func (s scaling) from(block int) scaling {
	if len(s.scales) == 1 {
		return s
	}
	return scaling{s.scales[block:]}
}
