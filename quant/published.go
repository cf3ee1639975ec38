package quant

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// PlanPublished plans the conversion of a published checkpoint, by its name
// among glm.Presets, with nothing on disk: tensors, shapes and dtypes are those
// of the family's table. Such a plan cannot be carried out.
func PlanPublished(name string, scheme Scheme, format Format, o Options) (*Plan, error) {
	info, err := glm.LookupPreset(name)
	if err != nil {
		return nil, err
	}
	cfg, err := glm.ParseConfig(info.JSON)
	if err != nil {
		return nil, err
	}
	return newPlan(cfg, &layout.View{Tensors: Published(cfg, info.MTPCopies)}, scheme, format, o)
}

// Published lists the tensors of a BF16 release of a config as headers would,
// in one shard, the MTP layer's optional copies where asked for.
func Published(cfg *glm.Config, copies bool) []safetensors.Info {
	var out []safetensors.Info
	offset := int64(0)
	for _, t := range cfg.Table() {
		if t.Optional && !copies {
			continue
		}
		in := safetensors.Info{Name: t.Name, DType: t.DType, Shape: t.Shape, File: "model.safetensors", Offset: offset}
		in.Size = in.Elements() * int64(t.DType.Bits()) / 8
		offset += in.Size
		out = append(out, in)
	}
	return out
}

// Subject is the result as the engines' tables ask for it.
func (p *Plan) Subject() engine.Subject { return p.asked }
