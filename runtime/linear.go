package runtime

import (
	"context"

	"github.com/glmconv/glmconv/internal/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
)

var errNoProjection = &Error{Reason: "a projection that the forward pass needs is not in the family's table", Kind: ErrUnsupported}

// linear computes y[rows, out] = in · wᵀ (+ bias), tile by tile. Row i of y
// starts at y[i·out].
func (m *Model) linear(ctx context.Context, in *input, w, bias *glm.Tensor) ([]float32, error) {
	if w == nil {
		return nil, errNoProjection
	}
	out := int(w.Shape[0])
	y := make([]float32, in.rows*out)
	if in.rows == 0 { // a sequence too short for a draft step
		return y, nil
	}
	if err := m.tiles(ctx, in, w, func(lo int, t *Weight) { t.product(y[lo:], out, in, m.workers) }); err != nil {
		return nil, err
	}
	if bias != nil {
		b, err := m.p.Vector(bias)
		if err != nil {
			return nil, err
		}
		for i := range in.rows {
			kernel.Add(y[i*out:][:out], b)
		}
	}
	return y, nil
}

// tiles calls fn for the tiles of a weight in order.
func (m *Model) tiles(ctx context.Context, in *input, w *glm.Tensor, fn func(lo int, t *Weight)) error {
	if w == nil {
		return errNoProjection
	}
	rows, cols := int(w.Shape[0]), int(w.Shape[1])
	if in.cols != cols {
		return &Error{Where: w.Name, Reason: shapeReason(rows, cols, rows, in.cols), Kind: ErrIncomplete}
	}
	for lo := 0; lo < rows; {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := m.p.Tile(w, lo)
		if err != nil {
			return err
		}
		fn(lo, t)
		lo += t.Rows
		m.p.Release(t)
	}
	return nil
}

// norm returns RMSNorm of each row of x with the given weight.
func (m *Model) norm(x []float32, w *glm.Tensor) ([]float32, error) {
	return m.normEps(x, w, m.cfg.RMSNormEps)
}

func (m *Model) normEps(x []float32, w *glm.Tensor, eps float64) ([]float32, error) {
	g, err := m.p.Vector(w)
	if err != nil {
		return nil, err
	}
	y := make([]float32, len(x))
	kernel.RMSNormRows(y, x, g, eps)
	return y, nil
}
