package runtime

import (
	"context"

	"github.com/glmconv/glmconv/glm"
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
	if err := m.observe(in, w); err != nil {
		return nil, err
	}
	err := m.tiles(ctx, in, w, func(lo int, t *Weight) {
		t.product(y[lo:], out, in, m.workers)
		if t.on(in.path) != nil {
			bias = nil // quant_bias holds it
		}
	})
	if err != nil {
		return nil, err
	}
	return y, m.addBias(y, bias)
}

// observe shows a projection's input.
func (m *Model) observe(in *input, w *glm.Tensor) error {
	if m.opt.Observe == nil || w == nil {
		return nil
	}
	return m.opt.Observe(w, in.rows, in.values)
}

// addBias adds a bias to every row of y; nil is none.
func (m *Model) addBias(y []float32, bias *glm.Tensor) error {
	if bias == nil {
		return nil
	}
	b, err := m.p.Vector(bias)
	if err != nil {
		return err
	}
	for i := 0; i < len(y); i += len(b) {
		kernel.Add(y[i:][:len(b)], b)
	}
	return nil
}

// job is a product that is computed together with others: y as linear returns
// it.
type job struct {
	in      *input
	w, bias *glm.Tensor
	y       []float32
}

// linears computes several products. Where the weights are in memory their rows
// are shared out over the threads all at once: with few tokens a product alone
// is too short for that.
func (m *Model) linears(ctx context.Context, jobs []job) (err error) {
	if _, ok := m.p.(*Resident); !ok {
		for i := range jobs {
			if jobs[i].y, err = m.linear(ctx, jobs[i].in, jobs[i].w, jobs[i].bias); err != nil {
				return err
			}
		}
		return nil
	}
	tiles, cost := make([]*Weight, len(jobs)), 0
	for i := range jobs {
		j := &jobs[i]
		if err = m.observe(j.in, j.w); err != nil {
			return err
		}
		// One tile is the whole weight.
		if err = m.tiles(ctx, j.in, j.w, func(_ int, t *Weight) { tiles[i] = t }); err != nil {
			return err
		}
		tiles[i].prepare(j.in)
		j.y = make([]float32, j.in.rows*tiles[i].Rows)
		cost += tiles[i].cost(j.in)
	}
	type unit struct{ job, lo, hi int }
	var units []unit
	for i, t := range tiles {
		if jobs[i].in.rows == 0 {
			continue // a sequence too short for a draft step
		}
		n := max(1, 32*m.opt.Threads*t.cost(jobs[i].in)/max(cost, 1))
		step := (t.Rows + n - 1) / n
		step = (step + t.align() - 1) / t.align() * t.align()
		for lo := 0; lo < t.Rows; lo += step {
			units = append(units, unit{i, lo, min(lo+step, t.Rows)})
		}
	}
	m.workers.Each(len(units), 1, cost/max(len(units), 1), func(lo, hi int) {
		for _, u := range units[lo:hi] {
			t, j := tiles[u.job], &jobs[u.job]
			t.slice(u.lo, u.hi).product(j.y[u.lo:], t.Rows, j.in, nil)
		}
	})
	for i := range jobs {
		if tiles[i].on(jobs[i].in.path) != nil {
			continue // quant_bias holds it
		}
		if err = m.addBias(jobs[i].y, jobs[i].bias); err != nil {
			return err
		}
	}
	return nil
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
	m.eachRow(len(x)/len(g), len(g), func(lo, hi int) {
		kernel.RMSNormRows(y[lo*len(g):hi*len(g)], x[lo*len(g):hi*len(g)], g, eps)
	})
	return y, nil
}

// eachRow shares n rows of k elements out over the threads.
func (m *Model) eachRow(n, k int, fn func(lo, hi int)) { m.workers.Each(n, 1, 2*k, fn) }
