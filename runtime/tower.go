package runtime

import (
	"context"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/runtime/vision"
)

// tower is the vision tower of glm4v_moe with its merger
// (docs/facts/families.md 6.2).
type tower struct {
	v       *glm.VisionConfig
	missing int

	patch, patchBias *glm.Tensor
	table            *glm.Tensor
	convNorm         *glm.Tensor
	blocks           [][]*glm.Tensor // norm1, norm2, qkv, proj, gate, up, down
	norm             *glm.Tensor
	down, downBias   *glm.Tensor
	proj             *glm.Tensor
	ln, lnBias       *glm.Tensor
	gate, up, out    *glm.Tensor
	rope             *kernel.Rope
}

// newTower files the tower's tensors by the order of the family's table.
func newTower(cfg *glm.Config, missing int) *tower {
	t := &tower{v: cfg.Vision, missing: missing, blocks: make([][]*glm.Tensor, cfg.Vision.Depth)}
	places := []**glm.Tensor{&t.patch, &t.patchBias, &t.table, &t.convNorm, &t.norm, &t.down, &t.downBias,
		&t.proj, &t.ln, &t.lnBias, &t.gate, &t.up, &t.out}
	table := cfg.Table()
	for i := range table {
		switch r := &table[i]; {
		case !r.Role.IsVision():
		case r.Layer >= 0:
			t.blocks[r.Layer] = append(t.blocks[r.Layer], r)
		default:
			*places[0], places = r, places[1:]
		}
	}
	t.patch, t.down = matrix(t.patch), matrix(t.down)
	// Each half of the pairs turns with y, the other with x.
	t.rope = kernel.NewRope(10000, t.v.HiddenSize/t.v.Heads/2)
	return t
}

// matrix returns a convolution's weight as the matrix [out, rest] that it is
// when kernel and stride are equal.
func matrix(t *glm.Tensor) *glm.Tensor {
	flat := *t
	flat.Shape = []int64{t.Shape[0], t.Elements() / t.Shape[0]}
	return &flat
}

// towerRows is how many patches go through the tower together, in whole
// slices: what bounds its memory.
const towerRows = 8192

// visionRows runs the vision tower and its merger over a picture or clip and returns
// a row for each merged patch [T·H·W/merge², hidden_size], slice by slice. A
// slice sees itself only: how many go through together changes no result.
func (m *Model) visionRows(ctx context.Context, p *vision.Patches) ([]float32, error) {
	t := m.tower
	if t == nil {
		return nil, unsupported(string(m.cfg.Family), "the family has no vision tower")
	}
	if t.missing > 0 {
		return nil, &Error{Where: "vision tower", Reason: fmt.Sprintf("%d tensors are missing", t.missing), Kind: ErrIncomplete}
	}
	if d := t.v.HiddenSize / t.v.Heads; d%4 != 0 {
		return nil, unsupported("vision_config.num_heads", "gives heads of %d dimensions; two-axis rotation needs a multiple of 4", d)
	}
	g, width := p.Grid, int(t.patch.Shape[1])
	n := g.H * g.W
	if n == 0 || g.H%t.v.MergeSize != 0 || g.W%t.v.MergeSize != 0 || len(p.Pixel) != g.T*n*width {
		return nil, unsupported("vision tower", "%d values are no grid of %d × %d × %d patches of %d", len(p.Pixel), g.T, g.H, g.W, width)
	}
	pos, err := m.positionTable(g.H, g.W)
	if err != nil {
		return nil, err
	}
	var out []float32
	step := max(1, towerRows/n)
	for lo := 0; lo < g.T; lo += step {
		hi := min(lo+step, g.T)
		rows, err := m.slices(ctx, p.Pixel[lo*n*width:hi*n*width], hi-lo, g, pos)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// slices runs the tower over whole temporal slices.
func (m *Model) slices(ctx context.Context, pixel []float32, slices int, g vision.Grid, pos []float32) ([]float32, error) {
	t := m.tower
	x, err := m.linear(ctx, m.input(pixel, int(t.patch.Shape[1])), t.patch, t.patchBias)
	if err != nil {
		return nil, err
	}
	if x, err = m.towerNorm(x, t.convNorm); err != nil {
		return nil, err
	}
	for i := range slices {
		kernel.Add(x[i*len(pos):][:len(pos)], pos)
	}
	cos, sin := t.angles(g)
	for _, b := range t.blocks {
		h, err := m.towerNorm(x, b[0])
		if err != nil {
			return nil, err
		}
		if h, err = m.look(ctx, h, b[2], b[3], g.H*g.W, cos, sin); err != nil {
			return nil, err
		}
		kernel.Add(x, h)
		// The MLP is wide: a part of the rows at a time.
		part := m.opt.Chunk * t.v.HiddenSize
		for lo := 0; lo < len(x); lo += part {
			rows := x[lo:min(lo+part, len(x))]
			if h, err = m.towerNorm(rows, b[1]); err != nil {
				return nil, err
			}
			if h, err = m.swiglu(ctx, m.input(h, t.v.HiddenSize), b[4], b[5], b[6]); err != nil {
				return nil, err
			}
			kernel.Add(rows, h)
		}
	}
	if x, err = m.towerNorm(x, t.norm); err != nil {
		return nil, err
	}
	return m.merge(ctx, x)
}

func (m *Model) towerNorm(x []float32, w *glm.Tensor) ([]float32, error) {
	g, err := m.p.Vector(w)
	if err != nil {
		return nil, err
	}
	y := make([]float32, len(x))
	kernel.RMSNormRows(y, x, g, m.tower.v.RMSNormEps)
	return y, nil
}

// merge makes one row of each block of merge × merge patches: a convolution,
// LayerNorm with GELU, and a gated MLP.
func (m *Model) merge(ctx context.Context, x []float32) ([]float32, error) {
	t := m.tower
	h, block := t.v.HiddenSize, t.v.MergeSize*t.v.MergeSize
	in := make([]float32, len(x)) // the convolution's order: channel, y, x
	for lo := 0; lo < len(x); lo += block * h {
		for i := range block {
			for c := range h {
				in[lo+c*block+i] = x[lo+i*h+c]
			}
		}
	}
	u, err := m.linear(ctx, m.input(in, block*h), t.down, t.downBias)
	if err != nil {
		return nil, err
	}
	if u, err = m.linear(ctx, m.input(u, t.v.OutHiddenSize), t.proj, nil); err != nil {
		return nil, err
	}
	w, err := m.p.Vector(t.ln)
	if err != nil {
		return nil, err
	}
	b, err := m.p.Vector(t.lnBias)
	if err != nil {
		return nil, err
	}
	for lo := 0; lo < len(u); lo += len(w) {
		layerNormGELU(u[lo:][:len(w)], w, b)
	}
	return m.swiglu(ctx, m.input(u, t.v.OutHiddenSize), t.gate, t.up, t.out)
}

// layerNormGELU replaces x by GELU(LayerNorm(x)), eps 1e-5, the exact GELU.
func layerNormGELU(x, w, b []float32) {
	mean := kernel.Sum(x) / float32(len(x))
	for i := range x {
		x[i] -= mean
	}
	inv := float32(1 / math.Sqrt(float64(kernel.Dot(x, x)/float32(len(x)))+1e-5))
	for i, v := range x {
		z := float64(float32(float32(v*inv)*w[i]) + b[i])
		x[i] = float32(0.5 * z * (1 + math.Erf(z/math.Sqrt2)))
	}
}
