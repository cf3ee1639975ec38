package runtime

import (
	"context"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/runtime/vision"
)

// angles returns cos and sin of every patch of a slice [H·W, head/2]: the first
// half turns with the patch's row, the second with its column. Patches come in
// merge blocks.
func (t *tower) angles(g vision.Grid) (cos, sin []float32) {
	half := len(t.rope.Inv)
	cos, sin = make([]float32, g.H*g.W*2*half), make([]float32, g.H*g.W*2*half)
	at := 0
	t.eachPatch(g.H, g.W, func(y, x int) {
		t.rope.Angles(cos[at:][:half], sin[at:][:half], y)
		t.rope.Angles(cos[at+half:][:half], sin[at+half:][:half], x)
		at += 2 * half
	})
	return cos, sin
}

// eachPatch calls fn for the patches of a slice in the order of its rows.
func (t *tower) eachPatch(h, w int, fn func(y, x int)) {
	s := t.v.MergeSize
	for by := 0; by < h; by += s {
		for bx := 0; bx < w; bx += s {
			for i := range s * s {
				fn(by+i/s, bx+i%s)
			}
		}
	}
}

// look is the tower's attention on normed rows x: every patch sees all n
// patches of its slice.
func (m *Model) look(ctx context.Context, x []float32, qkv, proj *glm.Tensor, n int, cos, sin []float32) ([]float32, error) {
	v := m.tower.v
	h, dim := v.HiddenSize, v.HiddenSize/v.Heads
	y, err := m.linear(ctx, m.input(x, h), qkv, nil)
	if err != nil {
		return nil, err
	}
	rows := len(x) / h
	for r := range rows {
		c, s := cos[r%n*dim/2:][:dim/2], sin[r%n*dim/2:][:dim/2]
		for i := range 2 * v.Heads { // queries, then keys
			kernel.RotateHalf(y[r*3*h+i*dim:][:dim], c, s)
		}
	}
	o := make([]float32, len(x))
	scale := float32(math.Pow(float64(dim), -0.5))
	m.workers.Each(rows, 1, 2*n*h, func(lo, hi int) {
		scores := make([]float32, n)
		for r := lo; r < hi; r++ {
			if ctx.Err() != nil {
				return
			}
			slice := y[r/n*n*3*h:][:n*3*h]
			for i := range v.Heads {
				q := y[r*3*h+i*dim:][:dim]
				for t := range scores {
					scores[t] = kernel.Dot(q, slice[t*3*h+h+i*dim:]) * scale
				}
				kernel.Softmax(scores)
				dst := o[r*h+i*dim:][:dim]
				for t, p := range scores {
					kernel.Axpy(dst, p, slice[t*3*h+2*h+i*dim:])
				}
			}
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return m.linear(ctx, m.input(o, h), proj, nil)
}

// positionTable samples the learned table [N·N, Hv] for a grid of h × w patches
// with bicubic interpolation, A = −0.75, half-pixel centres, the border
// repeated (torch's grid_sample), and returns a row for each patch.
func (m *Model) positionTable(h, w int) ([]float32, error) {
	t := m.tower
	n, width := t.v.ImageSize/t.v.PatchSize, t.v.HiddenSize
	ids := make([]int, n*n)
	for i := range ids {
		ids[i] = i
	}
	table := make([]float32, n*n*width)
	if err := m.p.Gather(table, t.table, ids); err != nil {
		return nil, err
	}
	out := make([]float32, h*w*width)
	at := 0
	t.eachPatch(h, w, func(y, x int) {
		ty, wy := cubicTaps(y, h, n)
		tx, wx := cubicTaps(x, w, n)
		dst := out[at*width:][:width]
		line := make([]float32, width)
		for i, row := range ty {
			clear(line)
			for j, col := range tx {
				kernel.Axpy(line, wx[j], table[(row*n+col)*width:])
			}
			kernel.Axpy(dst, wy[i], line)
		}
		at++
	})
	return out, nil
}

// cubicTaps returns the four table indices and weights for patch i of size, in
// a table of n.
func cubicTaps(i, size, n int) (at [4]int, weight [4]float32) {
	// In float32 and by way of −1 … 1, as the reference computes it.
	norm := float32((float32(i)+0.5)/float32(size)*2) - 1
	pos := (float32((norm+1)*float32(n)) - 1) / 2
	base := float32(math.Floor(float64(pos)))
	f := pos - base
	const a = -0.75
	far := func(x float32) float32 {
		y := float32(float32(a*x)-5*a) * x
		return float32((y+8*a)*x) - 4*a
	}
	near := func(x float32) float32 {
		y := float32(float32((a+2)*x)-(a+3)) * x
		return float32(y*x) + 1
	}
	weight = [4]float32{far(f + 1), near(f), near(1 - f), far(2 - f)}
	for k := range at {
		at[k] = min(max(int(base)+k-1, 0), n-1)
	}
	return at, weight
}
