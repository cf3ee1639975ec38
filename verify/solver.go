package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/rotation"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// solver finds the rotations of a result from its weights and the source's.
type solver struct {
	cfg  *glm.Config
	from string
	dst  *safetensors.Checkpoint
	view *rotation.View

	noisy bool
	file  string // as in basis
}

func newSolver(f *folders, src, dst string) (*solver, error) {
	cfg, err := glm.LoadConfig(src)
	if err != nil {
		return nil, err
	}
	c, err := f.whole(dst)
	if err != nil {
		return nil, err
	}
	return &solver{cfg: cfg, from: src, dst: c}, nil
}

func (s *solver) close() {
	_ = s.dst.Close()
	if s.view != nil {
		_ = s.view.Close()
	}
}

func (s *solver) has(name string) bool { _, ok := s.dst.Info(name); return ok }

// solve finds the matrix of the stream, in the file beside the result, from the
// embedding or from the head, and those inside of latent attention from its first
// layer. A matrix that either of the two confirms is taken: where the other one
// contradicts it, that tensor is wrong, which the comparison of all weights says.
func (s *solver) solve(ctx context.Context) (set *rotation.Set, how string, err error) {
	set = &rotation.Set{}
	if set.Stream, err = s.stored(); err == nil {
		how = layout.RotationFile
		if err = s.turn(set); err == nil {
			err = s.confirmed(how)
		}
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.file = err.Error()
		}
		for _, x := range s.witnesses() {
			if ctx.Err() != nil {
				return nil, "", ctx.Err()
			}
			how = "solved from the " + x.what
			if err = s.turn(&rotation.Set{Stream: identity(s.cfg.HiddenSize)}); err != nil {
				return nil, "", err
			}
			if set.Stream, err = s.find(ctx, x.name, false, 0, s.cfg.HiddenSize); err != nil {
				continue
			}
			if err = s.turn(set); err == nil {
				err = s.confirmed(how)
			}
			if err == nil {
				break
			}
		}
	}
	if err != nil {
		return nil, "", err
	}
	if !s.cfg.LatentAttention() {
		return set, how, nil
	}
	for _, x := range []struct {
		name   string
		left   bool
		n, run int
		to     *rotation.Matrix
	}{
		{"q_a_proj.weight", true, s.cfg.QLoraRank, 0, &set.Query},
		{"kv_a_proj_with_mqa.weight", true, s.cfg.KVLoraRank, 0, &set.Latent},
		{"o_proj.weight", false, s.cfg.VHeadDim, s.cfg.VHeadDim, &set.Value},
	} {
		var err error
		for l := range min(s.cfg.Layers, latentTries) { // one of them may be damaged
			if err = s.latent(ctx, set, s.cfg.LayerPrefix(l)+"self_attn."+x.name, x.left, x.run, x.n, x.to); err == nil || ctx.Err() != nil {
				break
			}
		}
		if err != nil {
			return nil, "", err
		}
	}
	return set, how, nil
}

// latentTries is how many layers are asked for a rotation inside of attention.
const latentTries = 3

// latent finds one rotation inside of attention from a layer's weight, if the
// weight shows that there is one.
func (s *solver) latent(ctx context.Context, set *rotation.Set, name string, left bool, run, n int, to *rotation.Matrix) error {
	off, err := s.off(name, math.MaxInt)
	if err != nil || off <= 10*foreignLimit {
		return err // not rotated
	}
	m, err := s.find(ctx, name, left, run, n)
	if err != nil {
		return err
	}
	*to = m
	if err = s.turn(set); err == nil {
		off, err = s.off(name, math.MaxInt)
	}
	if err == nil && off <= 10*foreignLimit {
		if _, fast := m.(*rotation.Hadamard); !fast {
			s.noisy = true
		}
		return nil
	}
	*to = nil
	return errors.Join(err, s.turn(set), fmt.Errorf("%s is no rotation of the source's weight (relative difference %.2g)", name, off))
}

// witness is a weight at one end of the residual stream.
type witness struct{ what, name string }

func (s *solver) witnesses() []witness {
	return []witness{{"embedding", s.cfg.EmbeddingName()}, {"head", s.cfg.HeadName()}}
}

// confirmed tells whether one of the result's ends of the stream is the source's
// in the basis that the view has. The error is about the embedding.
func (s *solver) confirmed(how string) error {
	var first error
	for _, x := range s.witnesses() {
		off, err := s.off(x.name, 64)
		if err == nil && off <= 10*foreignLimit {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("the %s is not the source's times the matrix that is %s (relative difference %.2g)", x.what, how, off)
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// fileIsOf says what is wrong with the matrix beside the result, whose rotation is
// known; "" if nothing is, or it is not there.
func (s *solver) fileIsOf(known rotation.Matrix) string {
	m, err := s.stored()
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	x, y := make([]float32, known.Size()), make([]float32, known.Size())
	for i := range x {
		x[i] = float32(math.Sin(float64(i + 1)))
	}
	copy(y, x)
	known.Row(x)
	m.Row(y)
	var diff, size float64
	addSquares(&diff, &size, x, y)
	if !(root(diff, size) <= foreignLimit) {
		return layout.RotationFile + " is of another rotation than the weights"
	}
	return ""
}

func identity(n int) rotation.Matrix {
	d := &rotation.Dense{N: n, R: make([]float32, n*n)}
	for i := range n {
		d.R[i*n+i] = 1
	}
	return d
}

// stored reads the matrix that msmodelslim leaves beside its result.
func (s *solver) stored() (rotation.Matrix, error) {
	f, err := safetensors.OpenFile(source.Join(s.dst.Dir(), layout.RotationFile))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	t, ok := f.Tensor(layout.GlobalRotation)
	n := int64(s.cfg.HiddenSize)
	if !ok || len(t.Shape) != 2 || t.Shape[0] != n || t.Shape[1] != n {
		return nil, fmt.Errorf("%s has no %s [%d, %d]", layout.RotationFile, layout.GlobalRotation, n, n)
	}
	raw := make([]byte, t.Size)
	if err := f.ReadTensor(t, 0, raw); err != nil {
		return nil, err
	}
	r := make([]float32, n*n)
	if err := layout.DecodeFloats(r, raw, t.DType); err != nil {
		return nil, err
	}
	return rotation.Recognize(r, int(n))
}

// turn opens the source as far as it is known how it was rotated.
func (s *solver) turn(set *rotation.Set) (err error) {
	if s.view != nil {
		_ = s.view.Close()
	}
	s.view, err = rotation.NewView(s.from, set, rotation.ViewOptions{})
	return err
}

// rows returns rows of a weight of both sides, every step-th of them.
func (s *solver) rows(name string, most int) (a, b []float32, cols int, err error) {
	module, _ := glm.ModuleOf(name)
	st, err := layout.Lookup(s.dst, module, layout.Hints{})
	if err != nil {
		return nil, nil, 0, err
	}
	step := max(1, st.Rows/max(1, min(most, st.Rows)))
	align := 1
	if st.Quantized() {
		align = st.RowAlign()
	}
	step = (step + align - 1) / align * align
	for lo := 0; lo+align <= st.Rows; lo += step {
		x, err := s.view.Rows(name, lo, lo+align)
		if err != nil {
			return nil, nil, 0, err
		}
		y := make([]float32, align*st.Cols)
		if st.Quantized() {
			m, err := layout.ReadRows(s.dst, st, lo, lo+align)
			if err != nil {
				return nil, nil, 0, err
			}
			m.Dequant(y, 0, align)
		} else {
			size := int64(st.Codes.DType.Bits() / 8)
			raw := make([]byte, int64(len(y))*size)
			if err := s.dst.ReadAt(st.Codes, int64(lo*st.Cols)*size, raw); err != nil {
				return nil, nil, 0, err
			}
			if err := layout.DecodeFloats(y, raw, st.Codes.DType); err != nil {
				return nil, nil, 0, err
			}
		}
		if len(x) != len(y) {
			return nil, nil, 0, fmt.Errorf("%s has other dimensions than the source's", name)
		}
		a, b = append(a, x...), append(b, y...)
	}
	return a, b, st.Cols, nil
}

// off is the relative difference of a weight, over some of its rows.
func (s *solver) off(name string, most int) (float64, error) {
	a, b, _, err := s.rows(name, most)
	if err != nil {
		return 0, err
	}
	var diff, size float64
	addSquares(&diff, &size, a, b)
	return root(diff, size), nil
}

// find solves for the matrix of n rows that takes the source's weight to the
// result's: from the right, in runs of columns, or from the left for the first n
// rows.
func (s *solver) find(ctx context.Context, name string, left bool, run, n int) (rotation.Matrix, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if n > rotation.MaxSolved {
		return nil, fmt.Errorf("%s: a rotation of %d rows is not solved for; %s would say it", name, n, layout.RotationFile)
	}
	most := 4 * n
	if left {
		most = math.MaxInt
	} else if run > 0 {
		most = max(64, most/max(1, s.cfg.Heads))
	}
	a, b, cols, err := s.rows(name, most)
	if err != nil {
		return nil, err
	}
	if left {
		if len(a) < n*cols {
			return nil, fmt.Errorf("%s has fewer than %d rows", name, n)
		}
		a, b = transposed(a[:n*cols], n), transposed(b[:n*cols], n)
	}
	return rotation.Solve(a, b, n)
}

// transposed is x [n, cols] as [cols, n].
func transposed(x []float32, n int) []float32 {
	cols := len(x) / n
	y := make([]float32, len(x))
	for i := range n {
		for j := range cols {
			y[j*n+i] = x[i*cols+j]
		}
	}
	return y
}
