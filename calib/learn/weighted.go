package learn

import "github.com/glmconv/glmconv/quant/numeric"

// Weighted rounds w [rows, cols] with scales that are best where column j weighs
// h[j] (docs/facts/accuracy.md 2.2). Formats whose scales are not free are
// rounded as package numeric rounds them. Errors are those of numeric.Quantize.
func Weighted(spec numeric.Spec, w []float32, rows, cols int, h []float32) (*numeric.Matrix, error) {
	m, _, err := numeric.Quantize(spec, w, rows, cols, nil)
	if err != nil || !free(&spec) {
		return m, err
	}
	groups := m.ScaleCols()
	row := make([]byte, cols)
	lo, hi := codeRange(spec.Code)
	for r := range rows {
		for g := range groups {
			from, to := g*m.BlockCols, min((g+1)*m.BlockCols, cols)
			run := w[r*cols+from : r*cols+to]
			s := searchScale(&spec, run, h[from:to])
			m.Scales[r*groups+g] = s
			for i, v := range run {
				q := min(max(float32(v/s), lo), hi)
				row[from+i] = byte(int8(float32(q+magic) - magic))
			}
		}
		if m.Code == numeric.Int4 {
			numeric.PackNibbles(m.Codes[r*m.RowBytes():][:0], row, cols)
		} else {
			copy(m.Codes[r*cols:], row)
		}
	}
	return m, nil
}
