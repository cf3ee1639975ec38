package quant

import (
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
	// table, in an arithmetic; w are its values [rows, columns] after folds. A nil
	// matrix means that the weight is rounded as without statistics.
	Rows(name string, spec numeric.Spec, w []float32, lo, rows int) (*numeric.Matrix, error)
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
// codes: integers, FP8 with scales of channels, groups or blocks, FP4 and MX.
func (p *Plan) Learnable(it *Item) bool {
	if it.Action != Quantize || it.Weight.Quant.ZeroPoints {
		return false
	}
	switch q := it.Weight.Quant; {
	case q.Type == format.Int:
		return q.Bits == 4 || q.Bits == 8
	case q.Type == format.Float:
		return q.Strategy == format.TensorGroup || q.Scale == format.E8M0 || q.Bits == 8 && (q.Strategy == format.Channel || q.Strategy == format.Block)
	}
	return false
}

// Spec is the arithmetic of an item that is quantised.
func (p *Plan) Spec(it *Item) numeric.Spec { return p.lay.Numeric(it.Weight, p.Options.Arith) }

// Codes are those that Learn was given, nil if there are none.
func (p *Plan) Codes() Codes { return p.codes }

// Layout is how the result lies on disk.
func (p *Plan) Layout() layout.Layout { return p.lay }
