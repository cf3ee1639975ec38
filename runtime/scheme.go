package runtime

import (
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
)

// scheme is what a checkpoint's quantization_config says of its modules and
// its tensors cannot: bits of integer codes, form of the activations. nil: the
// tensors say everything.
type scheme struct{ declared *declaration.Declaration }

// parseScheme reads quantization_config. A full-precision, a block FP8 or an
// Ascend checkpoint has none that matters here. What is unknown in it matters
// only to the modules of its group.
func parseScheme(cfg *glm.Config) (*scheme, error) {
	s := &scheme{}
	if cfg.Quantization != string(declaration.CompressedTensors) {
		return s, nil
	}
	d, err := declaration.Config(cfg.QuantizationConfig)
	if err == nil {
		err = d.PatternError()
	}
	if err != nil {
		return nil, unsupported("config.json: quantization_config", "%v", err)
	}
	for _, p := range d.Problems {
		if p.Path != d.Root+".format" && // the tensors say how they are packed
			p.Kind == declaration.Unsupported && !strings.HasPrefix(p.Path, d.Root+".config_groups.") {
			return nil, unsupported("config.json: "+p.Path, "%s", p.Text)
		}
	}
	s.declared = d
	return s, nil
}

// weight says how wide the integer codes of a module are.
func (s *scheme) weight(module string) format.Weight {
	if s.declared != nil {
		if w := s.declared.Of(module).Weights(); w.Quantized() {
			return format.Weight{Type: format.Int, Bits: w.Bits}
		}
	}
	return format.Weight{Type: format.Int, Bits: 8}
}

// activation returns what the engines do with the input of a stored module.
func (s *scheme) activation(st layout.Stored) (format.Activation, error) {
	var want format.Activation
	packed := st.Quant.Packing == format.Words
	switch q := st.Quant; {
	case q.Type == format.Float && q.Strategy == format.Channel:
		want = format.Float8Token
	case q.Type == format.Float && q.Strategy == format.Block:
		want = format.Float8Group
	case q.Type == format.Int && !packed:
		want = format.Int8Token
	case !packed:
		return want, unsupported(st.Module, "no kernel for %s", q)
	}
	if st.Format != layout.CompressedTensors {
		return want, nil
	}
	said := s.declared.Of(st.Module)
	switch g := said.Group; {
	case said.Ignored != nil:
		return want, unsupported(st.Module, "is quantised, and the ignore list names it (%s); engines would read its codes as weights", said.Ignored.Text)
	case g == nil:
		return want, unsupported(st.Module, "is quantised, but no config group targets it; engines would read its codes as weights")
	case g.Order == "group", g.Output.Quantized():
		return want, unsupported(st.Module, "group %s: %s", g.Name, s.declared.Why(g))
	case g.Input == want, packed && g.Input == format.Float8Token:
		return g.Input, nil
	default:
		return want, unsupported(st.Module, "%s weights with %s activations", st.Quant, g.Input)
	}
}
