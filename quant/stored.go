package quant

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// A source may be quantized itself: its weights are decoded to float32 tile by
// tile and rounded once, to what the plan says. docs/facts/formats.md 10.2 has
// what a detour over BF16 costs.

// viewSource reads what a source declares and stores.
func viewSource(cfg *glm.Config, src *safetensors.Checkpoint) (*layout.View, error) {
	d, err := declaredBy(cfg, src.Dir())
	if err != nil {
		return nil, err
	}
	if d != nil && d.Unread() != "" {
		return nil, fail(ErrSource, unreadSource, "%s", d.Unread())
	}
	h := layout.Hints{Cols: columnsOf(cfg)}
	if d != nil {
		h.Declared = func(module string) format.Weight { return d.Of(module).Weights() }
	}
	v, err := layout.NewView(src, src.Tensors(), h)
	if err != nil {
		if errors.Is(err, layout.ErrForeign) && d != nil {
			return nil, fail(ErrSource, unreadSource, "the source is quantised in a form that is not read (%s): %v", d.Method, err)
		}
		return nil, err
	}
	if d != nil {
		if why := unreadable(v, d); why != "" {
			return nil, fail(ErrSource, unreadSource, "%s", why)
		}
	}
	if len(v.Stored) > 0 && d == nil {
		if name, d := declaration.Beside(func(name string) ([]byte, error) { return fsx.ReadIn(src.Dir(), name, fsx.MaxText) }); d != nil {
			return nil, fail(ErrSource, d.MoveInto(name), "%d weights have codes and scales (%s), and config.json has no quantization_config: %s declares %s, which engines do not read there",
				len(v.Stored), firstStored(v), name, d.Method)
		}
		return nil, fail(ErrSource, "fetch config.json and what lies beside it again",
			"%d weights have codes and scales (%s), and no file says how they are quantised", len(v.Stored), firstStored(v))
	}
	if i := slices.IndexFunc(v.Tensors, func(t safetensors.Info) bool { return strings.HasSuffix(t.Name, "rot.weight") }); i >= 0 && len(v.Stored) > 0 {
		return nil, fail(ErrSource, "convert from the release that was rotated", "the source's weights are rotated (%s) and would stay so", v.Tensors[i].Name)
	}
	return v, nil
}

// unreadSource is the way out where a source's weights are in no form that is
// read here.
const unreadSource = "convert from the BF16 or FP8 release"

// unreadable says why a stored weight is not what its tensors look like: the
// declaration has a form for it that is not read here.
func unreadable(v *layout.View, d *declaration.Declaration) string {
	for i := range v.Tensors {
		if s := v.Stored[v.Tensors[i].Name]; s != nil {
			if why := d.Unreadable(s.Module); why != "" {
				return s.Module + ": " + why
			}
		}
	}
	return ""
}

func firstStored(v *layout.View) string {
	for i := range v.Tensors {
		if v.Stored[v.Tensors[i].Name] != nil {
			return v.Tensors[i].Name
		}
	}
	return ""
}

// declaredBy reads what a source says of its own quantization: config.json, or
// a file beside it. nil: nothing does.
func declaredBy(cfg *glm.Config, dir string) (*declaration.Declaration, error) {
	if cfg.QuantizationConfig != nil {
		return declaration.Config(cfg.QuantizationConfig)
	}
	for _, name := range declaration.Files {
		raw, err := fsx.ReadIn(dir, name, fsx.MaxText)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return declaration.File(name, raw)
	}
	return nil, nil
}

// columnsOf tells a module's number of input columns by the family's table.
func columnsOf(cfg *glm.Config) func(module string) int {
	table := sync.OnceValue(func() map[string]int {
		m := map[string]int{}
		rows := cfg.Table()
		for i := range rows {
			if t := &rows[i]; t.Param == "weight" && len(t.Shape) == 2 {
				m[t.Module] = int(t.Shape[1])
			}
		}
		return m
	})
	return func(module string) int { return table()[module] }
}

// takeStored completes the items of quantized weights with where they lie.
func (p *Plan) takeStored(it *Item) {
	s := p.stored[it.Source.Name]
	if s == nil {
		return
	}
	it.Stored, it.Source, it.Bytes = s, s.Codes, 0
	for _, part := range s.Parts() {
		it.Bytes += part.Size
	}
}

// refuseSource refuses what would add nothing to a quantized source, or lose
// twice, and says what is lost twice.
func (p *Plan) refuseSource() error {
	if p.Scheme == layout.BF16 && len(p.stored) == 0 && p.sameFloats() && !p.again() {
		return p.already("every weight is BF16")
	}
	if len(p.stored) == 0 {
		return nil
	}
	same, quantized, coarse := true, false, ""
	forms := map[string]int{}
	for i := range p.Items {
		it := &p.Items[i]
		if it.Action == Quantize {
			quantized = true
			same = same && it.Stored != nil && it.Stored.Quant.SameCodes(it.Weight.Quant)
		}
		if it.Stored != nil && it.Action != Drop {
			forms[it.Stored.Quant.String()]++
			if it.Stored.Quant.Bits < 8 && coarse == "" {
				coarse = it.Name() + " is " + it.Stored.Quant.String()
			}
		}
	}
	if quantized && same && !p.again() {
		return p.already("every weight that it quantises is stored as " + stringsOf(forms))
	}
	if coarse != "" && !p.Options.AllowLossy {
		return &layout.ImpossibleError{What: fmt.Sprintf("%s from a source of less than 8 bits", p.Scheme),
			Rule:    coarse + ": what was lost there stays lost and is rounded a second time",
			Nearest: "convert from the BF16 or FP8 release; or allow a lossy source"}
	}
	note := "the source is quantised (" + stringsOf(forms) + "): weights are decoded to float32 and rounded once; its own error stays"
	if coarse != "" {
		note = "what was lost when the source was quantised (" + stringsOf(forms) + ") stays lost, and outweighs what this conversion adds"
	}
	p.Notes = append(p.Notes, note)
	return nil
}

// again reports whether a scheme that the source has already is wanted.
func (p *Plan) again() bool {
	return p.Options.Requantize || p.Options.Fold != "" && p.Options.Fold != FoldOff
}

func (p *Plan) already(why string) error {
	return &layout.ImpossibleError{What: fmt.Sprintf("%s of a source that is that already", p.Scheme), Rule: why,
		Nearest: "another scheme; or ask for it to be rounded again"}
}

// sameFloats reports whether all weights are BF16 that the scheme would make so.
func (p *Plan) sameFloats() bool {
	return !slices.ContainsFunc(p.Items, func(it Item) bool { return it.Action == Decode })
}

// stringsOf lists forms by falling number of weights.
func stringsOf(forms map[string]int) string {
	names := make([]string, 0, len(forms))
	for n := range forms {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if forms[a] != forms[b] {
			return forms[b] - forms[a]
		}
		return strings.Compare(a, b)
	})
	return strings.Join(names, ", ")
}

// dropUnread lists tensors of the source that only its own form needs.
func (p *Plan) dropUnread(list []safetensors.Info) {
	for _, t := range list {
		module, param := glm.ModuleOf(t.Name)
		row := glm.Tensor{Name: t.Name, Module: module, Param: param, DType: t.DType, Shape: t.Shape, Layer: -1, Expert: -1}
		p.Items = append(p.Items, Item{Source: t, Bytes: t.Size, Action: Drop, Reason: "scales of the source's own quantisation or key-value cache, which no weight needs",
			Weight: layout.Weight{Tensor: &row, Source: t.DType}})
	}
}
