package convert

import (
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// scale folds the source's bytes of a tile, in place.
func (c *converter) scale(t *tile, b []byte) error {
	it := t.item
	s := c.plan.Scaling(it.Name())
	if s == nil {
		return nil
	}
	return applyScaling(s, t, b, it.Source.DType)
}

// scaleFloats folds decoded weights of a tile, in place.
func (c *converter) scaleFloats(t *tile, w []float32) error {
	s := c.plan.Scaling(t.item.Name())
	if s == nil {
		return nil
	}
	raw := numeric.AppendF32(nil, w)
	if err := applyScaling(s, t, raw, safetensors.F32); err != nil {
		return err
	}
	numeric.DecodeF32(w, raw)
	return nil
}

func applyScaling(s *fold.Scaling, t *tile, b []byte, d safetensors.DType) error {
	it := t.item
	first := int64(t.row0)
	if it.Action == quant.Quantize || it.Stored != nil { // rows
		_, k := it.Weight.Dims()
		first *= int64(k)
	}
	if err := s.Apply(b, d, first, it.Name()); err != nil {
		return &quant.Error{Kind: quant.ErrSource, Reason: "the source cannot be folded exactly", Advice: "convert without folds", Err: err}
	}
	return nil
}
