package verify

import (
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

// folds returns the powers of two that have moved between tensors of a result: the
// source is compared as if they had moved in it. Which tensors take part is the
// family's to say, so that whatever the exponents are, a result that agrees
// computes the source's function.
func (r *Result) folds(f *folders, src, dst string) *fold.Set {
	m, err := quant.ReadManifest(dst)
	switch {
	case err == nil && m.Folds.Len() == 0:
		return nil
	case err == nil && m.Rotated: // they are in the basis
		r.Notes = append(r.Notes, Note{quant.ManifestName, fmt.Sprintf("powers of two moved at %d sites (%s) before the rotation, as in the source that is compared", m.Folds.Len(), m.Fold)})
		return nil
	case err == nil:
		r.Notes = append(r.Notes, Note{quant.ManifestName, fmt.Sprintf("powers of two moved at %d sites (%s): the source was compared with the same folds, bit for bit", m.Folds.Len(), m.Fold)})
		return m.Folds
	}
	set, err := moved(f, src, dst)
	if err != nil || set.Len() == 0 {
		return nil // what cannot be read is said where all of it is compared
	}
	r.Notes = append(r.Notes, Note{"weights", fmt.Sprintf("powers of two moved at %d sites, as gains of norms and lengths of rows show: the source was compared with the same folds, bit for bit", set.Len())})
	return set
}

// pair reads the same weights of two checkpoints.
type pair struct {
	a, b    *safetensors.Checkpoint
	entries map[string]glm.Entry // of a
}

// moved finds the powers of two by which a result's tensors differ from its
// source's: an empty set if its norms are the source's.
func moved(f *folders, src, dst string) (*fold.Set, error) {
	cfg, err := glm.LoadConfig(src)
	if err != nil {
		return nil, err
	}
	p := &pair{entries: map[string]glm.Entry{}}
	if p.a, err = f.whole(src); err != nil {
		return nil, err
	}
	defer func() { _ = p.a.Close() }()
	if p.b, err = f.whole(dst); err != nil {
		return nil, err
	}
	defer func() { _ = p.b.Close() }()
	for _, e := range glm.Survey(cfg, p.a.Tensors()).Entries {
		p.entries[e.Name] = e
	}
	set, sites := fold.NewSet(), fold.Sites(cfg)
	for i := range sites {
		if s := &sites[i]; s.Kind == fold.Norm {
			if e := p.gains(s); e != nil {
				set.Put(s, e)
			}
		}
	}
	if set.Len() == 0 {
		return set, nil
	}
	scalings, err := set.Scalings(cfg)
	if err != nil {
		return nil, err
	}
	for i := range sites {
		if s := &sites[i]; s.Kind != fold.Norm {
			e, err := p.lengths(s, scalings[s.Producers[0].Tensor.Name])
			if err != nil {
				return nil, err
			}
			set.Put(s, e)
		}
	}
	return set, nil
}

// gains returns the exponents of a norm; nil where its gains are not the source's
// times powers of two.
func (p *pair) gains(s *fold.Site) fold.Exponents {
	name := s.Producers[0].Tensor.Name
	info, ok := p.b.Info(name)
	it, known := p.entries[name]
	if !ok || !known {
		return nil
	}
	a, err := floatsOf(p.a, it.Source, it.Offset, s.Channels)
	if err != nil {
		return nil
	}
	b, err := floatsOf(p.b, info, 0, s.Channels)
	if err != nil {
		return nil
	}
	out := make(fold.Exponents, s.Channels)
	for c, v := range a {
		if v == b[c] {
			continue
		}
		f, e := math.Frexp(float64(v) / float64(b[c]))
		if f != 0.5 || e-1 > fold.Most || e-1 < -fold.Most {
			return nil
		}
		out[c] = int8(e - 1)
	}
	return out
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
	step := 64
	if st.Quantized() {
		step = max(1, (step+st.RowAlign()-1)/st.RowAlign()) * st.RowAlign()
	}
	out := make(fold.Exponents, s.Channels)
	size := int64(it.Source.DType.Bits() / 8)
	for lo := 0; lo < rows; lo += step {
		n := min(step, rows-lo)
		x, err := floatsOf(p.a, it.Source, it.Offset+int64(lo)*int64(cols)*size, n*cols)
		if err != nil {
			return nil, err
		}
		y, err := p.rowsOf(&st, lo, n)
		if err != nil {
			return nil, err
		}
		for r := range n {
			c := part.Channel(lo + r)
			if c < 0 {
				continue
			}
			var own, result float64
			for i, v := range x[r*cols:][:cols] {
				w, z := float64(v)*by[i], float64(y[r*cols+i])
				own, result = own+w*w, result+z*z
			}
			if own > 0 && result > 0 {
				out[c] = fold.Nearest(math.Sqrt(own / result))
			}
		}
	}
	return out, nil
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
