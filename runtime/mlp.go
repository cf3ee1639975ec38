package runtime

import (
	"context"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// swiglu computes down(silu(gate(x))·up(x)) for rows of in.
func (m *Model) swiglu(ctx context.Context, in *input, gate, up, down *glm.Tensor) ([]float32, error) {
	both := []job{{in: in, w: gate}, {in: in, w: up}}
	if err := m.linears(ctx, both); err != nil {
		return nil, err
	}
	return m.linear(ctx, m.activate(both[0].y, both[1].y, gate), down, nil)
}

// activate returns silu(g)·u as the input of the projection down; it takes the
// place of g.
func (m *Model) activate(g, u []float32, gate *glm.Tensor) *input {
	k := int(gate.Shape[0])
	m.workers.Each(len(g)/k, 1, 8*k, func(lo, hi int) { kernel.SwiGLU(g[lo*k:hi*k], g[lo*k:hi*k], u[lo*k:hi*k]) })
	return m.input(g, k)
}

// mlp is the second half of a layer: dense, or routed and shared experts.
func (m *Model) mlp(ctx context.Context, l *refs, x []float32, tr *Trace) ([]float32, error) {
	in := m.input(x, m.cfg.HiddenSize)
	if l.router == nil {
		m.prefetch(l.gate, l.up, l.down)
		return m.swiglu(ctx, in, l.gate, l.up, l.down)
	}
	if _, ok := m.p.(*Resident); ok && in.rows <= fewRows {
		return m.together(ctx, l, in, tr)
	}
	y, err := m.routed(ctx, l, in, tr)
	if err != nil || l.shGate == nil {
		return y, err
	}
	shared, err := m.swiglu(ctx, in, l.shGate, l.shUp, l.shDown)
	if err != nil {
		return nil, err
	}
	kernel.Add(y, shared)
	return y, nil
}
