package engine

import (
	"fmt"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// RefusesPublished returns the rule by which the release refuses weights of
// another tool's format; "" where none is known, which says nothing of whether
// it loads them. dense: the module is not a routed expert.
//
// Sources: docs/facts/formats.md 6.3, 7, 8, 13.
func (r Release) RefusesPublished(d *declaration.Declaration, g *declaration.Group, dense bool) string {
	w := g.Weights
	if r.Engine != VLLM && r.Engine != SGLang {
		return ""
	}
	vllm := r.Engine == VLLM
	switch packing := w.Packing; {
	case d.Method == declaration.AutoRound && d.Format == "gptqmodel":
		return `packing_format "auto_round:gptqmodel" is not among those it knows`
	case packing == format.GPTQWords || packing == format.GPTQv2Words:
		switch {
		case w.ZeroPoints:
			return fmt.Sprintf("GPTQ with zero points: unsupported quantization config, bits=%d, sym=False", w.Bits)
		case vllm && g.Order == "group" && w.Strategy == format.Group:
			return "GPTQ with desc_act and groups: refused"
		case vllm && w.Bits != 4 && w.Bits != 8 && d.Method == declaration.GPTQ:
			return fmt.Sprintf("GPTQ of %d bits: it has kernels for 4 and 8", w.Bits)
		}
	case packing == format.AWQWords:
		if w.Bits != 4 {
			return fmt.Sprintf("AWQ of %d bits: it has kernels for 4", w.Bits)
		}
	case d.Method == declaration.AutoRound && !vllm && w.Type == format.Float && w.Scale == format.E8M0:
		return "auto-round data types other than int are not supported"
	case d.Method == declaration.CompressedTensors && !vllm && w.SameCodes(format.MXFP4) && dense:
		return "MXFP4 of compressed-tensors: it has a scheme for routed experts alone"
	case d.Method == declaration.CompressedTensors && !vllm && w.SameCodes(format.MXFP8):
		return "MXFP8 of compressed-tensors: it has no scheme for it"
	}
	return ""
}
