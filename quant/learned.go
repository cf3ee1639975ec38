package quant

import (
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// Codes are codes and scales that something other than rounding found, from
// statistics of activations. It must be safe for concurrent use.
type Codes interface {
	// Method names how they were found: "search", "gptq". ID changes with
	// everything that decides a code.
	Method() string
	ID() string
	// Rows returns rows lo … lo+rows of a weight, by its name in the family's
	// table; w are its values [rows, columns] after folds. A nil matrix means
	// that the weight is rounded as without statistics.
	Rows(name string, w []float32, lo, rows int) (*numeric.Matrix, error)
}

// Learn makes the plan take codes that were found elsewhere where there are
// some; it changes the plan's fingerprint. The arithmetic must be the best one,
// and the bytes of the result then depend on the codes too.
func (p *Plan) Learn(c Codes) error {
	if p.Options.Arith != numeric.Best {
		return fail(ErrImpossible, "", "codes that are learnt from text are not the bytes of another tool")
	}
	p.codes = c
	p.Fingerprint = hashOf(p.Fingerprint, c.Method(), c.ID())
	return nil
}

// Learnable reports whether statistics of a weight's inputs can improve its
// codes: integers and FP8 with scales of channels, groups or blocks.
func (p *Plan) Learnable(it *Item) bool {
	if it.Action != Quantize || it.Weight.Quant.ZeroPoints {
		return false
	}
	switch q := it.Weight.Quant; {
	case q.Type == format.Int:
		return q.Bits == 4 || q.Bits == 8
	case q.Type == format.Float:
		return q.Bits == 8 && (q.Strategy == format.Channel || q.Strategy == format.Block)
	}
	return false
}

// Spec is the arithmetic of an item that is quantised.
func (p *Plan) Spec(it *Item) numeric.Spec { return p.lay.Numeric(it.Weight, p.arith()) }

// learnt returns a tile's codes: those that were found elsewhere, or w rounded.
func (c *converter) learnt(t *tile, spec numeric.Spec, w []float32, x *numeric.Scratch) (*numeric.Matrix, numeric.Stats, error) {
	k := len(w) / max(t.rows, 1)
	plain, st, err := numeric.Quantize(spec, w, t.rows, k, x)
	if err != nil || c.plan.codes == nil {
		return plain, st, err
	}
	m, err := c.plan.codes.Rows(t.item.Name(), w, t.row0, t.rows)
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
