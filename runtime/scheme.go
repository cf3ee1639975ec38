package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// scheme is what a checkpoint's quantization_config says of its modules and
// its tensors cannot: bits of integer codes, form of the activations.
type scheme struct {
	d *declaration.Declaration // nil: nothing is declared, or an Ascend description is

	description func() (*declaration.Declaration, error) // of an Ascend checkpoint; nil elsewhere
}

// parseScheme reads quantization_config. A nil config is a full-precision or an
// Ascend checkpoint. Groups that are not understood matter only to modules they
// match.
func parseScheme(cfg *glm.Config) (*scheme, error) {
	s := &scheme{}
	if cfg.QuantizationConfig == nil || cfg.Quantization == string(declaration.Ascend) {
		return s, nil
	}
	d, err := declaration.Config(cfg.QuantizationConfig)
	if err != nil {
		return nil, &Error{Where: "config.json: quantization_config", Reason: err.Error(), Kind: ErrUnsupported}
	}
	if !d.Method.Known() {
		return nil, unsupported("config.json: quantization_config", "quantization %q is not one that can be computed here", d.Spelled)
	}
	for _, p := range d.Problems {
		if p.Kind == declaration.Invalid && p.Path == "quantization_config.config_groups" {
			return nil, unsupported("config.json: "+p.Path, "%s", p.Text)
		}
	}
	if err := d.PatternError(); err != nil {
		return nil, unsupported("config.json", "%v", err)
	}
	s.d = d
	return s, nil
}

// readable refuses codes in an order that is not read, and those of which no file
// says what they are. What a config declares and no tensor has was left over.
func (s *scheme) readable(cfg *glm.Config, src Source) error {
	if s.d != nil {
		if why := s.d.Unread(); why != "" && cfg.StaleQuantization(src.Tensors()) == nil {
			return unsupported("", "%s", why)
		}
		return nil
	}
	folder, ok := src.(interface{ Dir() string })
	if !ok || cfg.Quantization != "" {
		return nil
	}
	for _, t := range src.Tensors() {
		switch t.DType {
		case safetensors.I8, safetensors.U8, safetensors.F8E4M3, safetensors.I32:
		default:
			continue
		}
		module, param := glm.ModuleOf(t.Name)
		if len(t.Shape) != 2 || !layout.HoldsWeight(param) {
			continue
		}
		if _, err := fsx.Stat(filepath.Join(folder.Dir(), declaration.DescriptionName)); !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		lost := "config.json has no quantization_config"
		if _, ok := src.Info(module + ".weight_offset"); ok {
			lost = declaration.DescriptionName + " is not there"
		}
		return &Error{Where: t.Name, Reason: fmt.Sprintf("is %s, and no file says how the weights are quantised: %s", t.DType, lost), Kind: ErrIncomplete}
	}
	return nil
}

// describedBy reads the description of an Ascend checkpoint when it is first
// needed: forms of MX do not tell what becomes of their inputs.
func (s *scheme) describedBy(cfg *glm.Config, src Source) {
	folder, ok := src.(interface{ Dir() string })
	if !ok || cfg.QuantizationConfig != nil {
		return
	}
	s.description = sync.OnceValues(func() (*declaration.Declaration, error) {
		raw, err := fsx.ReadIn(folder.Dir(), declaration.DescriptionName, 1<<30)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return declaration.Description(raw)
	})
}

// weight says what the weights of a module are declared to be.
func (s *scheme) weight(module string) format.Weight {
	if s.d != nil {
		if w := s.d.Of(module).Weights(); w.Quantized() {
			return w
		}
	}
	return format.Weight{Type: format.Int, Bits: 8}
}

// activation returns what the engines do with the input of a stored module.
func (s *scheme) activation(st layout.Stored) (format.Activation, error) {
	if st.Format == layout.Ascend {
		return byTensors(st)
	}
	d := s.d
	if d == nil && s.description != nil {
		var err error
		if d, err = s.description(); err != nil {
			return format.Activation{}, err
		}
	}
	if d == nil {
		return format.Activation{}, unsupported(st.Module, "is quantised (%s), and config.json has no quantization_config that says how", st.Quant)
	}
	g := d.Of(st.Module).Group
	switch {
	case g == nil:
		return format.Activation{}, unsupported(st.Module, "is quantised, but no config group targets it; engines would read its codes as weights")
	case !g.Judged:
		return format.Activation{}, unsupported(st.Module, "%s", problem(d, g))
	}
	act := g.Input
	if act.Strategy == format.Tensor && act.When == format.Dynamic && act.Quantized() {
		act.Strategy = format.Token // engines take a scale for each token where kernels have one
	}
	if !computable(st.Quant, act) {
		return act, unsupported(st.Module, "%s weights with %s activations", st.Quant, act)
	}
	if act.When != format.Dynamic && st.Input.Name == "" {
		return act, &Error{Where: st.Module, Reason: fmt.Sprintf("%s activations need a scale, which the checkpoint does not hold", act), Kind: ErrIncomplete}
	}
	return act, nil
}

// byTensors is the activation of weights that no group describes.
func byTensors(st layout.Stored) (format.Activation, error) {
	switch q := st.Quant; {
	case st.Static != nil && !st.Static.Mix:
		return layout.AscendStatic, nil
	case q.SameCodes(format.Float8):
		return format.Float8Token, nil
	case q.SameCodes(format.Float8Block):
		return format.Float8Group, nil
	case q.Type == format.Int && q.Packing != format.Words:
		return format.Int8Token, nil
	}
	return format.Activation{}, unsupported(st.Module, "%s weights, and no quantization_config says what becomes of their inputs", st.Quant)
}

// problem names what is not understood of a group.
func problem(d *declaration.Declaration, g *declaration.Group) string {
	for _, p := range d.Problems {
		if (p.Kind == declaration.Unsupported || p.Kind == declaration.Invalid) && (p.Path == g.Path || strings.HasPrefix(p.Path, g.Path+".")) {
			return p.String()
		}
	}
	return g.Path + ": the group is not understood"
}

// computable reports whether there is a product for a weight and the form of
// its input.
func computable(w format.Weight, a format.Activation) bool {
	fp8 := a.Type == format.Float && a.Bits == 8 && a.Scale == format.AnyScale && !a.ZeroPoints
	switch {
	case !a.Quantized():
		return true
	case a == format.Int8Token:
		return w.Type == format.Int && w.Packing != format.Words && !w.ZeroPoints
	case fp8 && a.Strategy == format.Token && a.When == format.Dynamic:
		return w.Type == format.Float && w.Bits == 8 && w.Scale != format.E8M0 || w.Packing == format.Words && w.Bits == 4
	case fp8 && a.Strategy == format.Group && a.When == format.Dynamic:
		return w.Type == format.Float && w.Strategy == format.Block && w.BlockCols == a.Group
	case fp8 && a.Strategy == format.Tensor && a.When == format.Static:
		return w.Type == format.Float && w.Bits == 8
	case a == format.NVFP4Local, a == format.MXFP4Group, a == format.MXFP8Group:
		return w.Type == format.Float
	}
	return false
}

// rounded reports whether an input of the form is rounded to numbers, which
// then meet the numbers of the weight; the others have products of codes.
func rounded(a format.Activation) bool {
	return a.Scale != format.AnyScale || a.When != format.Dynamic
}
