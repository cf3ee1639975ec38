package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/rotation"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
	"github.com/glmconv/glmconv/verify/diff"
)

// basis is the source in the basis of a rotated result (docs/facts/ascend.md
// 5.4): what its weights are compared with, and what runs beside it, so that
// states and drafts of both are in one basis.
type basis struct {
	weights string  // the source rotated, as the result was rounded: a mounted folder
	states  string  // the same in F32
	how     string  // where the rotation is from
	noisy   bool    // rotations inside of attention are known up to the rounding of what they were solved from
	limit   float64 // how far weights that are not quantized may be from it
	file    string  // what is wrong with the matrix beside the result, ""
	closers []func()
}

// foreignLimit is how far a weight may be that was rotated by another tool:
// msmodelslim rounds to BF16 after each of up to four steps (docs/facts/ascend.md
// 3.3).
const foreignLimit = 0.01

func (b *basis) close() {
	if b == nil {
		return
	}
	for _, f := range b.closers {
		f()
	}
}

// rounders leaves out weights whose rotation is not known well enough to round
// them again.
func (b *basis) rounders(own func(diff.Weight) diff.Rounder) func(diff.Weight) diff.Rounder {
	if b == nil || !b.noisy || own == nil {
		return own
	}
	return func(w diff.Weight) diff.Rounder {
		if strings.Contains(w.Module, ".self_attn.") {
			return nil
		}
		return own(w)
	}
}

// openBasis rotates the source as the result was. A nil basis says that the
// result is not rotated, or, with a reason, that the rotation could not be found.
func openBasis(ctx context.Context, f *folders, src, dst string) (b *basis, why string) {
	m, _ := quant.ReadManifest(dst)
	if !looksRotated(dst, m) {
		return nil, ""
	}
	s, err := newSolver(f, src, dst)
	if err != nil {
		return nil, err.Error()
	}
	defer s.close()
	b = &basis{}
	var set *rotation.Set
	if m != nil && m.Rotated {
		b.how = "the manifest's"
		if set, err = rotation.New(s.cfg, s.has(layout.DraftRotation)); err == nil {
			set.Folds = m.Folds
			b.file = s.fileIsOf(set.Stream)
		}
	} else {
		b.limit = foreignLimit
		set, b.how, err = s.solve(ctx)
		b.noisy, b.file = s.noisy, s.file
	}
	if err == nil {
		err = b.mount(ctx, src, set, s)
	}
	if err != nil {
		b.close()
		return nil, err.Error()
	}
	return b, ""
}

// looksRotated tells whether a folder says that it is rotated.
func looksRotated(dst string, m *quant.Manifest) bool {
	if m != nil {
		return m.Rotated
	}
	raw, err := fsx.ReadIn(dst, layout.DescriptionName, 1<<30)
	return err == nil && (strings.Contains(string(raw), `"quarot"`) || strings.Contains(string(raw), `"is_rot_used"`))
}

// mount makes the two views.
func (b *basis) mount(ctx context.Context, src string, set *rotation.Set, s *solver) error {
	copies := false
	for l := range s.cfg.MTPLayers {
		embed, head := s.cfg.MTPNames(s.cfg.Layers + l)
		copies = copies || s.has(embed) || s.has(head)
	}
	open := func(o rotation.ViewOptions) (string, error) {
		v, err := rotation.NewView(src, set, o)
		if err != nil {
			return "", err
		}
		unmount, err := source.Mount(ctx, v)
		if err != nil {
			return "", errors.Join(err, v.Close())
		}
		b.closers = append(b.closers, func() { unmount(); _ = v.Close() })
		return v.Name(), nil
	}
	wide := func(name string) bool {
		module, param := glm.ModuleOf(name)
		st, err := layout.Lookup(s.dst, module, layout.Hints{})
		return param == "weight" && err == nil && st.Quantized()
	}
	var err error
	if b.weights, err = open(rotation.ViewOptions{Name: "rotated as " + s.dst.Dir(), Wide: wide, Copies: copies, Matrix: s.has(layout.DraftRotation)}); err != nil {
		return err
	}
	b.states, err = open(rotation.ViewOptions{Name: "rotated as " + s.dst.Dir() + ", F32", Wide: func(string) bool { return true }, Copies: copies, Matrix: true})
	return err
}

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

// solve finds the matrix of the stream, in the file beside the result or from
// the embedding, and those inside of latent attention from its first layer.
func (s *solver) solve(ctx context.Context) (set *rotation.Set, how string, err error) {
	set = &rotation.Set{}
	if set.Stream, err = s.stored(); err == nil {
		how = layout.RotationFile
		if err = s.turn(set); err == nil {
			err = s.embedded(how)
		}
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.file = err.Error()
		}
		how = "solved from the embedding"
		if err = s.turn(&rotation.Set{Stream: identity(s.cfg.HiddenSize)}); err != nil {
			return nil, "", err
		}
		if set.Stream, err = s.find(ctx, s.cfg.EmbeddingName(), false, 0, s.cfg.HiddenSize); err != nil {
			return nil, "", err
		}
		if err = s.turn(set); err == nil {
			err = s.embedded(how)
		}
	}
	if err != nil {
		return nil, "", err
	}
	if !s.cfg.LatentAttention() {
		return set, how, nil
	}
	layer := s.cfg.LayerPrefix(0) + "self_attn."
	for _, x := range []struct {
		name   string
		left   bool
		n, run int
		to     *rotation.Matrix
	}{
		{layer + "q_a_proj.weight", true, s.cfg.QLoraRank, 0, &set.Query},
		{layer + "kv_a_proj_with_mqa.weight", true, s.cfg.KVLoraRank, 0, &set.Latent},
		{layer + "o_proj.weight", false, s.cfg.VHeadDim, s.cfg.VHeadDim, &set.Value},
	} {
		off, err := s.off(x.name, math.MaxInt)
		if err != nil {
			return nil, "", err
		}
		if off <= 10*foreignLimit {
			continue // not rotated
		}
		m, err := s.find(ctx, x.name, x.left, x.run, x.n)
		if err != nil {
			return nil, "", err
		}
		*x.to = m
		if _, fast := m.(*rotation.Hadamard); !fast {
			s.noisy = true
		}
		if err := s.turn(set); err != nil {
			return nil, "", err
		}
		if off, err = s.off(x.name, math.MaxInt); err != nil || !(off <= 10*foreignLimit) {
			return nil, "", errors.Join(err, fmt.Errorf("%s is no rotation of the source's weight (relative difference %.2g)", x.name, off))
		}
	}
	return set, how, nil
}

// embedded tells whether the result's embedding is the source's in the basis that
// the view has.
func (s *solver) embedded(how string) error {
	off, err := s.off(s.cfg.EmbeddingName(), 64)
	if err == nil && !(off <= 10*foreignLimit) {
		err = fmt.Errorf("the embedding is not the source's times %s (relative difference %.2g)", how, off)
	}
	return err
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
