package layout

import (
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// modelOpt is the layout of NVIDIA's ModelOpt where it is not that of
// compressed-tensors (docs/facts/formats.md 4.2):
//
//	NVFP4   P.weight U8 [O,I/2]  P.weight_scale F8_E4M3 [O,I/16]  P.weight_scale_2 F32 []  (P.input_scale F32 [])
//
// weight_scale_2 multiplies. FP8 and MXFP8 lie as compressed-tensors has them,
// under the same names.
type modelOpt struct{ common }

func (modelOpt) Format() Format         { return ModelOpt }
func (modelOpt) weightParams() []string { return []string{"weight"} }

func (modelOpt) foreign() []foreignParam {
	return []foreignParam{{"pre_quant_scale", "a scale of ModelOpt's AWQ that multiplies the input"}}
}

func (modelOpt) find(t *tensors, _ Hints) (s Stored, ok bool, err error) {
	c, ok := t.get("weight")
	if !ok || c.DType != safetensors.U8 {
		return s, false, nil
	}
	if s.Global, ok = t.get("weight_scale_2"); !ok {
		return s, false, nil
	}
	s.Module, s.Format, s.Codes = t.module, ModelOpt, c
	if s.Scale, ok = t.get("weight_scale"); !ok || s.Scale.DType != safetensors.F8E4M3 {
		return s, true, fmt.Errorf("layout: %s has no weight_scale of FP8: %w", c.Name, ErrMalformed)
	}
	if s.Input, ok = t.get("input_scale"); !ok {
		if s.Input, ok = t.get("input_scale_2"); ok { // Quark's name
			s.Format = Quark
		}
	}
	return s, true, s.nibbles()
}

func (modelOpt) read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (*numeric.Matrix, error) {
	return b.readNibbles(r, s, lo, hi, true)
}

// quark is the layout of AMD's Quark where it is not that of the others
// (docs/facts/formats.md 5.2):
//
//	MXFP4   P.weight U8 [O,I/2]  P.weight_scale U8 [O,I/32]
//
// NVFP4 lies as ModelOpt has it but for input_scale_2; FP8 as
// compressed-tensors has it.
type quark struct{}

func (quark) Format() Format          { return Quark }
func (quark) weightParams() []string  { return []string{"weight"} }
func (quark) foreign() []foreignParam { return nil }

func (quark) find(t *tensors, _ Hints) (s Stored, ok bool, err error) {
	c, ok := t.get("weight")
	if !ok || c.DType != safetensors.U8 {
		return s, false, nil
	}
	if s.Scale, ok = t.get("weight_scale"); !ok || s.Scale.DType != safetensors.U8 && s.Scale.DType != safetensors.F8E8M0 {
		return s, false, nil
	}
	s.Module, s.Format, s.Codes = t.module, Quark, c
	if len(c.Shape) == 2 && c.Shape[1]*4 == 3*int64(dim(s.Scale, 1))*32 {
		return s, true, fmt.Errorf("layout: %s %v holds codes of 6 bits: %w", c.Name, c.Shape, ErrForeign)
	}
	return s, true, s.nibbles()
}

func (quark) read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (*numeric.Matrix, error) {
	return b.readNibbles(r, s, lo, hi, s.Quant.Strategy == format.TensorGroup)
}
