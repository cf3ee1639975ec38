package convert

import (
	"fmt"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// learnt returns a tile's codes: those that were found elsewhere, or w rounded.
func (c *converter) learnt(t *tile, spec numeric.Spec, w []float32, x *numeric.Scratch) (*numeric.Matrix, numeric.Stats, error) {
	k := len(w) / max(t.rows, 1)
	plain, st, err := numeric.Quantize(spec, w, t.rows, k, x)
	if err != nil || c.plan.Codes() == nil {
		return plain, st, err
	}
	m, err := c.plan.Codes().Rows(t.item.Name(), spec, w, t.row0, t.rows)
	switch {
	case err != nil:
		return nil, st, err
	case m == nil:
		return plain, st, nil
	case m.Rows != t.rows || m.Cols != k:
		return nil, st, fmt.Errorf("%w: codes of [%d, %d] for [%d, %d]", layout.ErrMalformed, m.Rows, m.Cols, t.rows, k)
	}
	found := errorOf(m, w)
	found.PlainSq = st.SumErrSq
	return m, found, nil
}

// errorOf sums the error of codes.
func errorOf(m *numeric.Matrix, w []float32) numeric.Stats {
	st := numeric.Stats{Elements: int64(len(w))}
	row := make([]float32, m.Cols)
	for r := range m.Rows {
		m.Dequant(row, r, r+1)
		for i, v := range w[r*m.Cols:][:m.Cols] {
			e := float64(row[i]) - float64(v)
			st.SumSq += float64(v) * float64(v)
			st.SumErrSq += e * e
			st.MaxErr = max(st.MaxErr, e, -e)
		}
	}
	return st
}
