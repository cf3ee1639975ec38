package learn

import "github.com/glmconv/glmconv/quant/numeric"

// Weighted rounds w [rows, cols] with scales that are best where column j weighs
// h[j] (docs/facts/accuracy.md 2.2). Formats whose scales are not free are
// rounded as package numeric rounds them. Errors are those of numeric.Quantize.
func Weighted(spec numeric.Spec, w []float32, rows, cols int, h []float32) (*numeric.Matrix, error) {
	m, _, err := numeric.Quantize(spec, w, rows, cols, nil)
	if err != nil || !free(&spec) && !micro(&spec) {
		return m, err
	}
	codes := make([]byte, cols)
	for r := range rows {
		row := w[r*cols:][:cols]
		if micro(&spec) {
			weightedLocal(&spec, m, r, row, h, codes)
		} else {
			weightedRow(&spec, m, r, row, h, codes)
		}
		if m.Code.Bits() == 4 {
			numeric.PackNibbles(m.Codes[r*m.RowBytes():][:0], codes, cols)
		} else {
			copy(m.Codes[r*cols:], codes)
		}
	}
	return m, nil
}

// weightedRow chooses the scales of a row and writes its codes, a byte each.
func weightedRow(s *numeric.Spec, m *numeric.Matrix, r int, w, h []float32, codes []byte) {
	groups := m.ScaleCols()
	lo, hi := codeRange(s.Code)
	for g := range groups {
		from, to := g*m.BlockCols, min((g+1)*m.BlockCols, m.Cols)
		scale := searchScale(s, w[from:to], h[from:to])
		m.Scales[r*groups+g] = scale
		for i, v := range w[from:to] {
			q := min(max(float32(v/scale), lo), hi)
			codes[from+i] = byte(int8(float32(q+magic) - magic))
		}
	}
}
