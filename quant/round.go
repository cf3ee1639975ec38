package quant

import (
	"fmt"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Rounder rounds the weight of one module as a plan has it, without files: what
// a result's codes are compared with. It is safe for concurrent use.
type Rounder struct {
	spec   numeric.Spec
	align  int
	cols   int
	narrow bool // the reference tool decodes the source to BF16 first
}

// Rounders returns a Rounder for every module that the plan quantises, by
// module name.
func (p *Plan) Rounders() map[string]*Rounder {
	out := map[string]*Rounder{}
	for i := range p.Items {
		it := &p.Items[i]
		if it.Action != Quantize {
			continue
		}
		_, k := it.Weight.Dims()
		out[strings.TrimSuffix(it.Name(), ".weight")] = &Rounder{p.Spec(it), p.lay.RowAlign(it.Weight, p.Options.Arith), k, it.Stored != nil && p.Options.Arith == numeric.Compat}
	}
	return out
}

// NewRounder returns a Rounder for a weight as another tool stored it, in the
// arithmetic a of the layout it lies in. The error says that the layout is not
// known or that the weight is not quantised.
func NewRounder(s layout.Stored, source safetensors.DType, a numeric.Arith) (*Rounder, error) {
	if !s.Quantized() {
		return nil, fmt.Errorf("quant: %s is not quantised", s.Module)
	}
	lay, err := layout.For(s.Format)
	if err != nil {
		return nil, err
	}
	w := layout.Weight{Tensor: &glm.Tensor{Module: s.Module, Shape: []int64{int64(s.Rows), int64(s.Cols)}}, Source: source, Quant: s.Quant}
	spec := lay.Numeric(w, a)
	spec.SourceF32 = source == safetensors.F32
	return &Rounder{spec, lay.RowAlign(w, a), s.Cols, source.Bits() < 16 && a == numeric.Compat}, nil
}

// Align is the number of rows that pieces must start at a multiple of; 0 means
// that the weight must be rounded in one piece.
func (r *Rounder) Align() int { return r.align }

// Round quantises rows of the weight, src [rows, cols]. Results and errors are
// those of numeric.Quantize, of weights decoded to BF16 where the arithmetic asks
// for that.
func (r *Rounder) Round(src []float32, rows int, x *numeric.Scratch) (*numeric.Matrix, numeric.Stats, error) {
	if r.narrow {
		decoded := src
		src = make([]float32, len(decoded))
		for i, v := range decoded {
			src[i] = numeric.RoundBF16(v)
		}
	}
	return numeric.Quantize(r.spec, src, rows, r.cols, x)
}

// RoundBytes is Round for rows as a checkpoint stores them.
func (r *Rounder) RoundBytes(src []byte, d numeric.Decoder, rows int, x *numeric.Scratch) (*numeric.Matrix, numeric.Stats, error) {
	return numeric.QuantizeBytes(r.spec, src, d, rows, r.cols, x)
}
