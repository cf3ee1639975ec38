package repair

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// stale tells whether config.json declares a quantization of weights that are
// not quantized.
func (d *decider) stale() bool {
	return slices.ContainsFunc(d.found, func(f origin.Finding) bool { return f.Kind == origin.StaleConfig })
}

// staleConfig takes out what declares a quantization that no tensor has.
func (d *decider) staleConfig() {
	for _, f := range d.found {
		if f.Kind != origin.StaleConfig {
			continue
		}
		if file, _, inside := strings.Cut(f.Where, ": "); !inside {
			d.drop(file, "it declares a quantization, and no tensor is quantised")
			if file == declaration.DescriptionName {
				d.text = nil
			}
			continue
		}
		text, err := withoutKeys(d.cfg.Raw, "quantization_config", "compression_config")
		if err != nil {
			d.stays("config.json: %v", err)
			continue
		}
		d.config = text
		d.step("config", "config.json", "quantization_config goes: no tensor is quantised")
	}
}

func (d *decider) duplicates() {
	for _, pr := range d.ckpt.Problems() {
		if !isDuplicate(pr) || pr.Tensor == "" {
			continue
		}
		if kept, ok := d.ckpt.Info(pr.Tensor); ok && kept.File != pr.File {
			d.set(pr.File, pr.Tensor, nil)
			d.step("duplicate", pr.Tensor, "dropped from %s, kept in %s", pr.File, kept.File)
		}
	}
}

func isDuplicate(pr safetensors.Problem) bool {
	var e *safetensors.Error
	return pr.Kind == safetensors.ProblemError && errors.As(pr.Err, &e) && e.Kind == safetensors.ErrDuplicate && strings.HasSuffix(pr.File, ".safetensors")
}

// missing takes what the family's table needs, and for quantized folders the
// parts of weights, from the base model.
func (d *decider) missing() {
	if slices.ContainsFunc(d.found, func(f origin.Finding) bool { return f.Kind == origin.ForeignNames && f.Blocks }) {
		d.still++ // what seems to be missing is there under other names: a base model's in its place would be another model
		return
	}
	m := glm.Survey(d.cfg, d.ckpt.Tensors())
	quantized := d.quantizedModules()
	taken, mtp := map[string]bool{}, false
	take := func(t safetensors.Info) {
		if !taken[t.Name] {
			taken[t.Name] = true
			d.extra = append(d.extra, source{base: true, info: t, as: t.Name})
			d.step("tensor", t.Name, "taken from the base model")
		}
	}
	misfit := func(name string) bool {
		return slices.ContainsFunc(m.Misfits, func(e glm.Entry) bool { return e.Name == name })
	}
	if d.from != nil && d.from.alike && d.from.rotated == "" {
		d.parts(m, take)
	}
	for i := range m.Missing {
		row := &m.Missing[i]
		if misfit(row.Name) || taken[row.Name] || d.partsTaken(row, taken) || d.hasAdopted(row) {
			continue
		}
		if d.from == nil {
			if file := d.ckpt.Lost(row.Name); file != "" {
				d.lost[file]++
				d.still++
				continue
			}
			d.lack("%s: missing; a base model (--from BASE) may have it", row.Name)
			continue
		}
		t, why := d.from.take(row, quantized(row.Module))
		if why != "" {
			d.lack("%s: missing; %s", row.Name, why)
			continue
		}
		take(t)
		mtp = mtp || row.MTP
	}
	if mtp {
		d.copiesOfBase(taken)
	}
	for _, file := range slices.Sorted(maps.Keys(d.lost)) {
		d.stays("%s: the index lists it, and it is not there or cannot be read: fetch it again (%d tensors of the model are in it; a base model, --from BASE, may have them)", file, d.lost[file])
	}
}

func (d *decider) lack(format string, args ...any) {
	d.still++
	d.stays(format, args...)
}

// parts takes every tensor of a base that is quantized alike which the folder
// lacks: codes, scales and what belongs to them, and all that is not quantized.
func (d *decider) parts(m *glm.Model, take func(safetensors.Info)) {
	modules := map[string]bool{}
	for _, row := range m.Rows() {
		modules[row.Module] = true
	}
	for _, t := range d.from.ckpt.Tensors() {
		module, _ := glm.ModuleOf(t.Name)
		if _, ok := d.ckpt.Info(t.Name); !ok && modules[module] && d.adopted[t.Name].Name == "" {
			take(t)
		}
	}
}

// partsTaken tells whether a row's weight came as codes of another name.
func (d *decider) partsTaken(row *glm.Tensor, taken map[string]bool) bool {
	return taken[row.Module+".weight_packed"]
}

// copiesOfBase gives an MTP layer that came from the base model its copies of
// embedding and head where the base model has them: those of this folder's own.
func (d *decider) copiesOfBase(taken map[string]bool) {
	for copied, own := range d.ownOf() {
		_, stored := d.ckpt.Info(copied)
		_, theirs := d.from.ckpt.Info(copied)
		t, ok := d.ckpt.Info(own)
		if theirs && ok && !stored && !taken[copied] && isFloat(t.DType) {
			d.extra = append(d.extra, source{info: t, as: copied})
			d.step("tensor", copied, "copied from %s", own)
		}
	}
	slices.SortFunc(d.extra, func(a, b source) int { return strings.Compare(a.as, b.as) })
}

// quantizedModules says which modules the folder's declaration quantizes.
func (d *decider) quantizedModules() func(module string) bool {
	var decl *declaration.Declaration
	var err error
	switch {
	case d.text != nil:
		decl, err = declaration.Description(d.text)
	case d.cfg.QuantizationConfig != nil && !d.stale():
		decl, err = declaration.Config(d.cfg.QuantizationConfig)
	}
	if decl == nil || err != nil {
		return func(string) bool { return false }
	}
	return func(module string) bool {
		s := decl.Of(module)
		return s.Group != nil && s.Ignored == nil && isLinear(d.cfg, module)
	}
}

func isLinear(cfg *glm.Config, module string) bool {
	row := cfg.Lookup(module + ".weight")
	return row != nil && row.Role.IsLinear()
}

// routerBiases takes those that are not F32, or F32 and rounded, from the base
// model, unless they were trained since.
func (d *decider) routerBiases() error {
	if d.from == nil {
		return nil
	}
	for _, e := range glm.Survey(d.cfg, d.ckpt.Tensors()).ByRole(glm.RouterBias) {
		t, ok := d.from.ckpt.Info(e.Name)
		if !ok || t.DType != safetensors.F32 || !slices.Equal(t.Shape, e.Source.Shape) || t.Size > 1<<24 {
			continue
		}
		have, err := floats(d.ckpt, e.Source)
		if err != nil {
			return err
		}
		want, err := floats(d.from.ckpt, t)
		if err != nil {
			return err
		}
		narrow := e.Source.DType != safetensors.F32
		if !narrow && (!allBF16(have) || allBF16(want)) {
			continue
		}
		lost := !slices.ContainsFunc(have, func(x float32) bool { return x != 0 }) // as before training
		if n := apart(have, want); n > 0 && !lost {
			if narrow {
				d.stays("%s: %d of its %d values are not the base model's rounded to %s: it was trained since, and what rounding took cannot come back", e.Name, n, len(have), e.Source.DType)
			}
			continue
		}
		was := e.Source.DType.String()
		switch {
		case lost:
			was = "0 throughout"
		case !narrow:
			was = "rounded to BF16"
		}
		d.set(e.Source.File, e.Name, &source{base: true, info: t, as: e.Name})
		d.step("tensor", e.Name, "taken from the base model in F32, it was %s", was)
	}
	return nil
}

func floats(c *safetensors.Checkpoint, t safetensors.Info) ([]float32, error) {
	raw := make([]byte, t.Size)
	if err := c.ReadAt(t, 0, raw); err != nil {
		return nil, err
	}
	if !isFloat(t.DType) {
		return nil, fmt.Errorf("%w: %s is %s", safetensors.ErrDType, t.Name, t.DType)
	}
	out := make([]float32, t.Size/int64(t.DType.Bits()/8))
	return out, layout.DecodeFloats(out, raw, t.DType)
}

func allBF16(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return math.Float32bits(x)&0xffff != 0 })
}

// apart counts the values that are further apart than rounding to 8 bits.
func apart(a, b []float32) (n int) {
	for i := range a {
		if diff := math.Abs(float64(a[i]) - float64(b[i])); !(diff <= math.Abs(float64(b[i]))/128+1e-7) {
			n++
		}
	}
	return n
}

// ownOf are the MTP layers' copies and what they are copies of.
func (d *decider) ownOf() map[string]string {
	out := map[string]string{}
	for i := range max(d.cfg.MTPLayers, 1) {
		embed, head := d.cfg.MTPNames(d.cfg.Layers + i)
		out[embed], out[head] = d.cfg.EmbeddingName(), d.cfg.HeadName()
		if _, ok := d.ckpt.Info(d.cfg.HeadName()); !ok && d.cfg.TieEmbeddings {
			out[head] = d.cfg.EmbeddingName()
		}
	}
	return out
}

// zeroRow tells whether a row holds nothing but zeros.
func zeroRow(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	return !slices.ContainsFunc(p, func(b byte) bool { return b != 0 })
}
