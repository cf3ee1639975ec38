package verify

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// A result that says nothing of folds may have them: a tool that smooths by powers
// of two, or ours without its manifest. Gains of norms are copied, so that theirs
// show exactly; those of value and up rows show in the lengths of rows, which
// codes change by less than a factor of √2. Whatever is found, the source is
// compared with it folded, in every tensor that takes part: a wrong guess fails.

// folding is what moved between tensors of a result: the source is compared as if
// it had moved in it. Nothing where both are empty.
type folding struct {
	powers  *fold.Set
	factors fold.Factors
}

// folds finds what has moved between tensors of a result. Which tensors take part
// is the family's to say, so that whatever the factors are, a result that agrees
// computes the source's function.
func (r *Result) folds(ctx context.Context, f *folders, src, dst string, o *StaticOptions) (folding, *smoothing) {
	m, err := quant.ReadManifest(dst)
	switch {
	case err == nil && m.Folds.Len() == 0:
		return folding{}, nil
	case err == nil && m.Rotated: // they are in the basis
		r.Notes = append(r.Notes, Note{quant.ManifestName, fmt.Sprintf("powers of two moved at %d sites (%s) before the rotation, as in the source that is compared", m.Folds.Len(), m.Fold)})
		return folding{}, nil
	case err == nil:
		r.Notes = append(r.Notes, Note{quant.ManifestName, fmt.Sprintf("powers of two moved at %d sites (%s): the source was compared with the same folds, bit for bit", m.Folds.Len(), m.Fold)})
		return folding{powers: m.Folds}, nil
	}
	cfg, p, err := openPair(f, src, dst)
	if err != nil {
		return folding{}, nil // said where all of it is compared
	}
	defer p.close()
	set, others, err := p.moved(cfg)
	if err != nil {
		return folding{}, nil // as above
	}
	if o.basis == nil && (others || set.Len() == 0) {
		if s, err := p.smoothed(ctx, cfg, others); err == nil && s != nil {
			r.Notes = append(r.Notes, Note{"weights", fmt.Sprintf("factors moved at %d sites (smoothing), as gains of norms, columns and rows show: the source was compared with the same folds, each value rounded once more", s.sites)})
			return folding{factors: s.factors}, s
		}
	}
	if set.Len() == 0 {
		return folding{}, nil
	}
	r.Notes = append(r.Notes, Note{"weights", fmt.Sprintf("powers of two moved at %d sites, as gains of norms and lengths of rows show: the source was compared with the same folds, bit for bit", set.Len())})
	return folding{powers: set}, nil
}

// pair reads the same weights of two checkpoints.
type pair struct {
	a, b    *safetensors.Checkpoint
	entries map[string]glm.Entry // of a
}

// openPair opens two checkpoints.
func openPair(f *folders, src, dst string) (*glm.Config, *pair, error) {
	cfg, err := glm.LoadConfig(src)
	if err != nil {
		return nil, nil, err
	}
	p := &pair{entries: map[string]glm.Entry{}}
	if p.a, err = f.whole(src); err != nil {
		return nil, nil, err
	}
	if p.b, err = f.whole(dst); err != nil {
		return nil, nil, errors.Join(err, p.a.Close())
	}
	for _, e := range glm.Survey(cfg, p.a.Tensors()).Entries {
		p.entries[e.Name] = e
	}
	return cfg, p, nil
}

func (p *pair) close() { _ = errors.Join(p.a.Close(), p.b.Close()) }

// moved finds the powers of two by which a result's tensors differ from its
// source's: an empty set if its norms are the source's. others reports whether a
// norm has other gains, by no powers of two.
func (p *pair) moved(cfg *glm.Config) (set *fold.Set, others bool, err error) {
	sites := fold.Sites(cfg)
	set = fold.NewSet()
	for i := range sites {
		if s := &sites[i]; s.Kind == fold.Norm {
			e, other := p.gains(s)
			if others = others || other; e != nil {
				set.Put(s, e)
			}
		}
	}
	if set.Len() == 0 || others {
		return set, others, nil
	}
	scalings, err := set.Scalings(cfg)
	if err != nil {
		return nil, false, err
	}
	for i := range sites {
		if s := &sites[i]; s.Kind != fold.Norm {
			e, err := p.lengths(s, scalings[s.Producers[0].Tensor.Name])
			if err != nil {
				return nil, false, err
			}
			set.Put(s, e)
		}
	}
	return set, false, nil
}

// gains returns the exponents of a norm; nil where its gains are not the source's
// times powers of two: other reports that they differ from them.
func (p *pair) gains(s *fold.Site) (out fold.Exponents, other bool) {
	a, b, ok := p.gainsOf(s)
	if !ok {
		return nil, false
	}
	out = make(fold.Exponents, s.Channels)
	for c, v := range a {
		if v == b[c] {
			continue
		}
		f, e := math.Frexp(float64(v) / float64(b[c]))
		if f != 0.5 || e-1 > fold.Most || e-1 < -fold.Most {
			return nil, true
		}
		out[c] = int8(e - 1)
	}
	return out, false
}

// gainsOf reads the gains of a norm in both.
func (p *pair) gainsOf(s *fold.Site) (a, b []float32, ok bool) {
	name := s.Producers[0].Tensor.Name
	info, ok := p.b.Info(name)
	it, known := p.entries[name]
	if !ok || !known {
		return nil, nil, false
	}
	a, err := floatsOf(p.a, it.Source, it.Offset, s.Channels)
	if err != nil {
		return nil, nil, false
	}
	b, err = floatsOf(p.b, info, 0, s.Channels)
	return a, b, err == nil
}

// floatsOf reads n values of a tensor from a byte on.
func floatsOf(c *safetensors.Checkpoint, t safetensors.Info, off int64, n int) ([]float32, error) {
	size := int64(t.DType.Bits() / 8)
	if size == 0 || off+int64(n)*size > t.Size {
		return nil, fmt.Errorf("%s: %w", t.Name, layout.ErrMalformed)
	}
	raw := make([]byte, int64(n)*size)
	if err := c.ReadAt(t, off, raw); err != nil {
		return nil, err
	}
	out := make([]float32, n)
	return out, layout.DecodeFloats(out, raw, t.DType)
}

// lengths returns the exponents of value or up rows: of each the power of two next
// to the ratio of its lengths, the source's under the folds of the norm in front.
func (p *pair) lengths(s *fold.Site, before *fold.Scaling) (fold.Exponents, error) {
	part := &s.Producers[0]
	it, ok := p.entries[part.Tensor.Name]
	st, err := layout.Lookup(p.b, part.Tensor.Module, layout.Hints{})
	if err != nil || !ok || it.Source.DType.Bits() < 16 {
		return make(fold.Exponents, s.Channels), err
	}
	rows, cols := int(part.Tensor.Shape[0]), int(part.Tensor.Shape[1])
	if st.Rows != rows || st.Cols != cols {
		return nil, fmt.Errorf("%s: %w", part.Tensor.Name, layout.ErrMalformed)
	}
	by := make([]float64, cols)
	for c := range by {
		if by[c] = 1; before != nil && before.Cols != nil {
			by[c] = math.Ldexp(1, int(before.Cols[c]))
		}
	}
	out := make(fold.Exponents, s.Channels)
	return out, p.eachRow(it, &st, func(r int, x, y []float32) {
		c := part.Channel(r)
		if c < 0 {
			return
		}
		var own, result float64
		for i, v := range x {
			w, z := float64(v)*by[i], float64(y[i])
			own, result = own+w*w, result+z*z
		}
		if own > 0 && result > 0 {
			out[c] = fold.Nearest(math.Sqrt(own / result))
		}
	})
}

// eachRow calls fn with every row of a weight of the source, stored as floats, and
// of the result.
func (p *pair) eachRow(it glm.Entry, st *layout.Stored, fn func(r int, x, y []float32)) error {
	step, cols, size := 64, st.Cols, int64(it.Source.DType.Bits()/8)
	if st.Quantized() {
		step = max(1, (step+st.RowAlign()-1)/st.RowAlign()) * st.RowAlign()
	}
	for lo := 0; lo < st.Rows; lo += step {
		n := min(step, st.Rows-lo)
		x, err := floatsOf(p.a, it.Source, it.Offset+int64(lo)*int64(cols)*size, n*cols)
		if err != nil {
			return err
		}
		y, err := p.rowsOf(st, lo, n)
		if err != nil {
			return err
		}
		for r := range n {
			fn(lo+r, x[r*cols:][:cols], y[r*cols:][:cols])
		}
	}
	return nil
}

// rowsOf reads rows of a weight of the result.
func (p *pair) rowsOf(st *layout.Stored, lo, n int) ([]float32, error) {
	if !st.Quantized() {
		return floatsOf(p.b, st.Codes, int64(lo)*int64(st.Cols)*int64(st.Codes.DType.Bits()/8), n*st.Cols)
	}
	m, err := layout.ReadRows(p.b, *st, lo, lo+n)
	if err != nil {
		return nil, err
	}
	y := make([]float32, n*st.Cols)
	m.Dequant(y, 0, n)
	return y, nil
}
