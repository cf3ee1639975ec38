package quant

import (
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// VerifyOutput reads the headers of what was written and compares them with
// the set of tensors that the family's table and the layout call for, computed
// without the plan's items: names, dtypes and exact shapes, experts and MTP
// layer one by one. Engines notice half of such faults at best.
func (p *Plan) VerifyOutput(dir string) error {
	out, err := safetensors.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("the result cannot be read back: %w", err)
	}
	defer out.Close()
	want, err := p.Expected()
	if err != nil {
		return err
	}
	for name, w := range want {
		got, ok := out.Info(name)
		if !ok {
			return fmt.Errorf("the result lacks tensor %s", name)
		}
		if got.DType != w.DType || !slices.Equal(got.Shape, w.Shape) {
			return fmt.Errorf("the result has tensor %s as %s %v, it must be %s %v", name, got.DType, got.Shape, w.DType, w.Shape)
		}
	}
	for _, name := range out.Names() {
		if _, ok := want[name]; !ok {
			return fmt.Errorf("the result has tensor %s, which nothing calls for", name)
		}
	}
	return nil
}

// Expected returns the tensors that a result of this plan must hold, by name.
// It starts from the family's table, not from the items that are written.
func (p *Plan) Expected() (map[string]safetensors.Spec, error) {
	present := map[string]safetensors.DType{}
	for _, e := range p.Model.Entries {
		present[e.Name] = e.Source.DType
	}
	keep, err := newPatterns(p.Options.Ignore, p.Options.Target)
	if err != nil {
		return nil, err
	}
	var inputs []layout.Input
	rows := p.Model.Rows()
	for i := range rows {
		t := &rows[i]
		d, ok := present[t.Name]
		switch {
		case ok:
		case t.MTP && t.Optional && p.CopiesForMTP():
			d = t.DType
			for _, e := range p.Model.Entries {
				if e.Role == copyOf(t.Role) {
					d = e.Source.DType
				}
			}
		default:
			continue
		}
		inputs = append(inputs, layout.Input{Tensor: t, Source: d})
	}
	decisions, err := layout.Decide(p.Config, inputs, p.rules(keep))
	if err != nil {
		return nil, err
	}
	want := map[string]safetensors.Spec{}
	for _, d := range decisions {
		if d.Drop {
			continue
		}
		for _, o := range p.lay.Outputs(d.Weight) {
			want[o.Name] = o
		}
	}
	for _, u := range p.Model.Unexpected {
		want[u.Name] = safetensors.Spec{Name: u.Name, DType: u.DType, Shape: u.Shape}
	}
	for _, w := range p.caches.Tensors(p.Config) {
		want[w.Tensor.Name] = p.lay.Outputs(w)[0]
	}
	return want, nil
}

// copyOf is the role of the tensor that an MTP copy repeats.
func copyOf(r glm.Role) glm.Role {
	switch r {
	case glm.MTPEmbedding:
		return glm.Embedding
	case glm.MTPHead:
		return glm.Head
	}
	return glm.Unknown
}
