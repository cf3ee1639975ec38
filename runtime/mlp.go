package runtime

import (
	"context"

	"github.com/glmconv/glmconv/internal/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// swiglu computes down(silu(gate(x))·up(x)) for rows of in.
func (m *Model) swiglu(ctx context.Context, in *input, gate, up, down *glm.Tensor) ([]float32, error) {
	g, err := m.linear(ctx, in, gate, nil)
	if err != nil {
		return nil, err
	}
	u, err := m.linear(ctx, in, up, nil)
	if err != nil {
		return nil, err
	}
	kernel.SwiGLU(g, g, u)
	return m.linear(ctx, m.input(g, int(gate.Shape[0])), down, nil)
}

// mlp is the second half of a layer: dense, or routed and shared experts.
func (m *Model) mlp(ctx context.Context, l *refs, x []float32, tr *Trace) ([]float32, error) {
	in := m.input(x, m.cfg.HiddenSize)
	if l.router == nil {
		return m.swiglu(ctx, in, l.gate, l.up, l.down)
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
