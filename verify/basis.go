package verify

import (
	"context"
	"errors"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/rotation"
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
