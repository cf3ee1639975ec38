package fold

import "github.com/glmconv/glmconv/glm"

// Kind says what the producer of a site is.
type Kind string

// The kinds.
const (
	Norm  Kind = "norm"  // the gains of a norm
	Value Kind = "value" // value rows of v_proj or kv_b_proj, into o_proj
	Up    Kind = "up"    // rows of up_proj, into down_proj
)

// Site is a place where a fold is exact.
type Site struct {
	Kind      Kind
	Layer     int
	Name      string // of the producer, which names the site
	Channels  int
	Producers []Part // rows, divided; the bias of a projection too
	Consumers []Part // columns, multiplied: all of them
	// Heads is how many runs of consumers' columns read the same channels; 1
	// where each column has its own (grouped queries share value heads).
	Heads int
}

// Part is a tensor that takes part in a fold, and the channel that each of its
// rows (of a producer) or columns (of a consumer) belongs to; -1 for none.
type Part struct {
	Tensor  *glm.Tensor
	Channel func(i int) int
}

func same(i int) int { return i }

// layerTensors are the tensors of a decoder layer that folds look at.
type layerTensors struct {
	norms, latents []*glm.Tensor
	one            map[glm.Role]*glm.Tensor
	valueBias      *glm.Tensor
	gates, ups     []*glm.Tensor // of experts, in order
	downs          []*glm.Tensor
}

func collect(cfg *glm.Config) []layerTensors {
	out := make([]layerTensors, cfg.Layers+cfg.MTPLayers)
	table := cfg.Table()
	for i := range table {
		t := &table[i]
		if t.Role.IsVision() || t.Layer < 0 || t.Layer >= len(out) {
			continue
		}
		l := &out[t.Layer]
		if l.one == nil {
			l.one = map[glm.Role]*glm.Tensor{}
		}
		switch {
		case t.Param == "bias":
			if t.Role == glm.AttnV {
				l.valueBias = t
			}
		case t.Role == glm.LayerNorm:
			l.norms = append(l.norms, t)
		case t.Role == glm.LatentNorm:
			l.latents = append(l.latents, t)
		case t.Role == glm.ExpertGate:
			l.gates = append(l.gates, t)
		case t.Role == glm.ExpertUp:
			l.ups = append(l.ups, t)
		case t.Role == glm.ExpertDown:
			l.downs = append(l.downs, t)
		default:
			l.one[t.Role] = t
		}
	}
	return out
}

// Sites lists every place of a family where a fold is exact, layer by layer, in
// the order of the forward pass, MTP layers included (docs/facts/families.md 4,
// 5). Tensors that a checkpoint lacks are listed all the same.
func Sites(cfg *glm.Config) []Site {
	var out []Site
	for i, l := range collect(cfg) {
		out = l.attention(out, cfg, i)
		out = l.mlp(out, i)
	}
	return out
}

// pick returns the tensors of some roles that the layer has.
func (l *layerTensors) pick(roles ...glm.Role) (out []*glm.Tensor) {
	for _, r := range roles {
		if t := l.one[r]; t != nil {
			out = append(out, t)
		}
	}
	return out
}

func (l *layerTensors) attention(out []Site, cfg *glm.Config, layer int) []Site {
	norm := func(p *glm.Tensor, consumers []*glm.Tensor) {
		out = append(out, plain(Norm, layer, p, consumers))
	}
	o := l.one[glm.AttnO]
	if !cfg.LatentAttention() {
		norm(l.norms[0], l.pick(glm.AttnQ, glm.AttnK, glm.AttnV))
		v, d, group := l.one[glm.AttnV], cfg.HeadDim, cfg.Heads/cfg.KVHeads
		s := Site{Kind: Value, Layer: layer, Name: v.Name, Channels: cfg.KVHeads * d, Heads: group, Producers: []Part{{v, same}},
			Consumers: []Part{{o, func(c int) int { return c/d/group*d + c%d }}}}
		if l.valueBias != nil {
			s.Producers = append(s.Producers, Part{l.valueBias, same})
		}
		return append(out, s)
	}
	norm(l.norms[0], l.pick(glm.AttnQA, glm.AttnKVA, glm.IndexerK, glm.IndexerProj))
	norm(l.latents[0], l.pick(glm.AttnQB, glm.IndexerQB))
	norm(l.latents[1], l.pick(glm.AttnKVB))
	per, nope := cfg.QKNopeHeadDim+cfg.VHeadDim, cfg.QKNopeHeadDim
	kvb := l.one[glm.AttnKVB]
	rows := func(r int) int {
		if h, j := r/per, r%per; j >= nope {
			return h*cfg.VHeadDim + j - nope
		}
		return -1
	}
	return append(out, Site{Kind: Value, Layer: layer, Name: kvb.Name, Channels: cfg.Heads * cfg.VHeadDim, Heads: 1,
		Producers: []Part{{kvb, rows}}, Consumers: []Part{{o, same}}})
}

func (l *layerTensors) mlp(out []Site, layer int) []Site {
	readers := l.pick(glm.DenseGate, glm.DenseUp, glm.Router, glm.SharedGate, glm.SharedUp)
	for e := range l.gates {
		readers = append(readers, l.gates[e], l.ups[e])
	}
	out = append(out, plain(Norm, layer, l.norms[1], readers))
	for _, m := range [][2]glm.Role{{glm.DenseUp, glm.DenseDown}, {glm.SharedUp, glm.SharedDown}} {
		if up, down := l.one[m[0]], l.one[m[1]]; up != nil && down != nil {
			out = append(out, plain(Up, layer, up, []*glm.Tensor{down}))
		}
	}
	for e := range l.ups {
		out = append(out, plain(Up, layer, l.ups[e], l.downs[e:e+1]))
	}
	return out
}

// plain is a site whose rows and columns are the channels.
func plain(k Kind, layer int, p *glm.Tensor, consumers []*glm.Tensor) Site {
	s := Site{Kind: k, Layer: layer, Name: p.Name, Channels: int(p.Shape[0]), Heads: 1, Producers: []Part{{p, same}}}
	for _, c := range consumers {
		s.Consumers = append(s.Consumers, Part{c, same})
	}
	return s
}
