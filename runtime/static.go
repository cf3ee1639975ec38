package runtime

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// NPUPath chooses between the ways in which vllm-ascend computes the same
// static weights (docs/facts/ascend.md 2.4).
type NPUPath uint8

// The paths. Plain is the zero value.
const (
	// Plain forms the reciprocal of input_scale in BF16; W8A8_MIX is dynamic.
	Plain NPUPath = iota
	// MLAPO is Plain but for q_a_proj, kv_a_proj and q_b_proj, whose fused kernel
	// forms the reciprocal in F32.
	MLAPO
	// Consumer is Plain but for W8A8_MIX, which is static on an instance that
	// consumes the cache of another.
	Consumer
)

// String returns "plain", "MLAPO" or "consumer".
func (p NPUPath) String() string { return [...]string{"plain", "MLAPO", "consumer"}[p] }

// static is what a tile with a static input is multiplied by.
type static struct {
	*layout.StaticRows
	mix   bool
	fused bool // a product of MLAPO
}

// loadStatic reads it for rows lo..hi of a weight.
func loadStatic(src Source, t *glm.Tensor, s layout.Stored, lo, hi int) (*static, error) {
	rows, err := layout.ReadStatic(src, s, lo, hi)
	if err != nil {
		return nil, err
	}
	fused := t.Role == glm.AttnQA || t.Role == glm.AttnQB || t.Role == glm.AttnKVA
	return &static{rows, s.Static.Mix, fused}, nil
}

// SetStatic makes the product of a weight one with a static input, on every path
// as on the plain one.
func (w *Weight) SetStatic(rows *layout.StaticRows) { w.static = &static{StaticRows: rows} }

// on returns the static product of a weight on a path; nil where it has none.
func (w *Weight) on(p NPUPath) *static {
	if w.static == nil || w.static.mix && p != Consumer {
		return nil
	}
	return w.static
}

// times is what inputs are multiplied by: the reciprocal of input_scale, which
// engines keep in BF16.
func (s *static) times(p NPUPath) float32 {
	r := 1 / numeric.RoundBF16(s.Scale)
	if p == MLAPO && s.fused {
		return r
	}
	return numeric.RoundBF16(r)
}

// rows are those of a slice of the weight.
func (s *static) slice(lo, hi int) *static {
	if s == nil {
		return nil
	}
	rows := *s.StaticRows
	rows.Deq, rows.Bias = rows.Deq[lo:hi], rows.Bias[lo:hi]
	return &static{&rows, s.mix, s.fused}
}

// staticForm names a form of an input.
type staticForm struct{ times, offset float32 }

// asStatic quantises the input as a static weight wants it.
func (in *input) asStatic(s *static) *kernel.Int8Rows {
	f := staticForm{s.times(in.path), float32(s.Offset)}
	a := in.static[f]
	switch {
	case a != nil:
		return a
	case in.parent != nil:
		a = in.parent.asStatic(s).Gather(in.picked)
	default:
		a = kernel.QuantizeStatic(in.x, in.rows, in.cols, f.times, f.offset, in.workers)
	}
	if in.static == nil {
		in.static = map[staticForm]*kernel.Int8Rows{}
	}
	in.static[f] = a
	return a
}

// NPUPaths are the paths on which the checkpoint's static weights give different
// results, Plain first.
func (m *Model) NPUPaths() ([]NPUPath, error) {
	fused, mix := false, false
	for _, l := range m.refs.layers {
		for _, t := range []*glm.Tensor{l.q, l.k, l.v, l.qA, l.qB, l.kvA, l.o, l.ixQB} {
			if t == nil || !m.p.Has(t) {
				continue
			}
			w, err := m.p.Tile(t, 0)
			if err != nil {
				return nil, err
			}
			if s := w.static; s != nil {
				mix = mix || s.mix
				fused = fused || !s.mix && s.times(Plain) != s.times(MLAPO)
			}
			m.p.Release(w)
		}
	}
	paths := []NPUPath{Plain}
	if fused {
		paths = append(paths, MLAPO)
	}
	if mix {
		paths = append(paths, Consumer)
	}
	return paths, nil
}
