package calib

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// Unit is a set of weights that are quantized alike: a fused group, a whole MLP or
// all experts of a layer. The first of its rungs is what the scheme makes of it.
type Unit struct {
	Name  string
	Layer int
	Rungs []Rung

	kind string
}

// Rung is one thing that a unit may be.
type Rung struct {
	Lift   layout.Lift `json:"lift"` // "" is the scheme's own
	Scheme string      `json:"scheme"`
	Bytes  int64       `json:"bytes"` // of the unit's tensors
	KL     float64     `json:"kl"`    // of the model with nothing else quantized
}

// Mix plans a conversion with units of different formats.
type Mix struct {
	Plan  *quant.Plan // the lowest
	Units []Unit

	src    *safetensors.Checkpoint
	lifted map[layout.Lift]*quant.Plan // all units that may
	query  engine.Query
}

// NewMix finds the units of a plan and what each may be lifted to: formats that
// every engine asked about loads at the same degrees and on the same devices as
// the plan itself. Notes say what was left out, and by which rule.
func NewMix(plan *quant.Plan, src *safetensors.Checkpoint, q engine.Query) (*Mix, error) {
	m := &Mix{Plan: plan, src: src, lifted: map[layout.Lift]*quant.Plan{}, query: q}
	if err := m.refuse(); err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i := range plan.Items {
		it := &plan.Items[i]
		if it.Action != quant.Quantize || it.Weight.Tensor.MTP {
			continue
		}
		name := layout.Unit(it.Weight.Tensor, plan.Scheme)
		k, ok := at[name]
		if !ok {
			k = len(m.Units)
			at[name] = k
			m.Units = append(m.Units, Unit{Name: name, Layer: it.Weight.Tensor.Layer, kind: kindOf(it.Weight.Tensor.Role, name), Rungs: []Rung{{Scheme: it.Scheme}}})
		}
		m.Units[k].Rungs[0].Bytes += outBytes(it)
	}
	slices.SortStableFunc(m.Units, func(a, b Unit) int { return cmp.Compare(a.Layer, b.Layer) })
	for _, to := range layout.Lifts(plan.Scheme, plan.Format) {
		if err := m.lift(to); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// refuse refuses plans whose weights cannot be measured one by one.
func (m *Mix) refuse() error {
	for i := range m.Plan.Items {
		switch it := &m.Plan.Items[i]; {
		case it.Action == quant.Quantize && it.Weight.Quant.Strategy == format.TensorGroup:
			return &layout.ImpossibleError{What: "a budget with " + string(m.Plan.Scheme), Rule: "weights below a scale of the whole tensor cannot be measured apart",
				Nearest: "w4a16, w4a8, mxfp4a16 and the 8-bit schemes can"}
		}
	}
	return nil
}

// kindOf names the kind of a unit: engines treat those of one kind alike.
func kindOf(r glm.Role, name string) string {
	switch {
	case r.IsExpert():
		return "experts"
	case r.IsShared():
		return "shared"
	case r.IsDense():
		return "dense" + name[strings.LastIndexByte(name, '.'):]
	}
	return name[strings.LastIndexByte(name, '.')+1:]
}

func outBytes(it *quant.Item) (n int64) { return it.Written }

// With returns the plan with some units lifted.
func (m *Mix) With(lifted map[string]layout.Lift) (*quant.Plan, error) {
	o := m.Plan.Options
	o.Lifted = lifted
	if len(lifted) == 0 {
		o.Lifted = nil
	}
	return quant.NewPlan(m.src, m.Plan.Scheme, m.Plan.Format, o)
}

// lift adds a rung to the units of every kind that engines load it for.
func (m *Mix) lift(to layout.Lift) error {
	base := m.Plan.EnginesFor(m.query)
	may := map[string]bool{}
	all := map[string]layout.Lift{}
	for i := range m.Units {
		u := &m.Units[i]
		ok, known := may[u.kind]
		if !known {
			ok = m.loads(base, map[string]layout.Lift{u.Name: to})
			may[u.kind] = ok
		}
		if ok {
			all[u.Name] = to
		}
	}
	if to != layout.LiftFloat && len(all) > 0 {
		p, err := m.With(all)
		if err != nil {
			return err
		}
		m.lifted[to] = p
	}
	return m.addRungs(to, all)
}

// loads reports whether engines load a mix wherever they load the plan.
func (m *Mix) loads(base []engine.Row, lifted map[string]layout.Lift) bool {
	p, err := m.With(lifted)
	if err != nil { // an engine would read it as something else, or nothing is left to quantize
		return false
	}
	for i, r := range p.EnginesFor(m.query) {
		if b := base[i]; r.Answer.Worse(b.Answer) || b.OK() && !within(b.Hardware, r.Hardware) {
			return false
		}
	}
	return true
}

// within reports whether a list of devices holds all of another.
func within(some, all string) bool {
	have := strings.Split(all, ",")
	for _, id := range strings.Split(some, ",") {
		if !slices.Contains(have, id) {
			return false
		}
	}
	return true
}

// addRungs adds a rung to units, with the bytes that it takes.
func (m *Mix) addRungs(to layout.Lift, units map[string]layout.Lift) error {
	bytes, schemes := map[string]int64{}, map[string]string{}
	from := m.Plan
	if to != layout.LiftFloat {
		from = m.lifted[to]
	}
	if from == nil {
		return nil
	}
	for i := range m.Plan.Items {
		it := &m.Plan.Items[i]
		if it.Action != quant.Quantize {
			continue
		}
		name := layout.Unit(it.Weight.Tensor, m.Plan.Scheme)
		if to == layout.LiftFloat {
			size, as := it.Bytes, it.Source.DType
			if it.Stored != nil { // decoded
				size, as = int64(it.Stored.Rows)*int64(it.Stored.Cols)*2, safetensors.BF16
			}
			bytes[name], schemes[name] = bytes[name]+size, as.String()
			continue
		}
		up := &from.Items[i]
		if up.Name() != it.Name() {
			return fmt.Errorf("calib: the plans of %s and %s list other tensors", m.Plan.Scheme, to)
		}
		bytes[name], schemes[name] = bytes[name]+outBytes(up), up.Scheme
	}
	for i := range m.Units {
		u := &m.Units[i]
		top := u.Rungs[len(u.Rungs)-1]
		if units[u.Name] != "" && bytes[u.Name] > top.Bytes && schemes[u.Name] != top.Scheme {
			u.Rungs = append(u.Rungs, Rung{Lift: to, Scheme: schemes[u.Name], Bytes: bytes[u.Name]})
		}
	}
	return nil
}
