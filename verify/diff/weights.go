package diff

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// tile is how many elements of a weight are compared at a time.
const tile = 256 << 10

// checkpoint is one side: its tensors, and how to read a module's weight.
type checkpoint struct {
	*safetensors.Checkpoint
	cfg     *glm.Config // nil if config.json cannot be understood
	hints   layout.Hints
	stacked map[string]glm.Entry // modules that are part of a stacked expert tensor
	modules map[string]bool      // modules with a weight
	fold    *fold.Reader         // nil: as it is stored
	unread  string               // why codes are not those that they look like; "": they are
}

// folded has the checkpoint read as if it had been folded.
func (c *checkpoint) folded(set *fold.Set, factors fold.Factors) (err error) {
	if c.cfg != nil && len(factors) > 0 {
		c.fold = fold.NewFactorReader(c.cfg, c.Checkpoint, factors)
		return nil
	}
	if set.Len() == 0 || c.cfg == nil {
		return nil
	}
	c.fold, err = fold.NewReader(c.cfg, c.Checkpoint, set)
	return err
}

// ReadAt reads bytes of a tensor.
func (c *checkpoint) ReadAt(t safetensors.Info, off int64, p []byte) error {
	if c.fold != nil {
		return c.fold.ReadAt(t, off, p)
	}
	return c.Checkpoint.ReadAt(t, off, p)
}

func open(dir string, with func(string) (*safetensors.Checkpoint, error)) (*checkpoint, error) {
	st, err := with(dir)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{Checkpoint: st, stacked: map[string]glm.Entry{}, modules: map[string]bool{}}
	for _, t := range st.Tensors() {
		if mod, param := glm.ModuleOf(t.Name); layout.HoldsWeight(param) {
			c.modules[mod] = true
		}
	}
	if c.cfg, err = glm.LoadConfigOf(dir, st.Tensors()); err != nil {
		if ce := glm.AsConfigError(err); ce != nil && ce.Field == "quantization_config" && errors.Is(err, glm.ErrUnsupported) {
			_ = st.Close()
			return nil, err // a format that is refused by name
		}
		c.cfg = nil // another model's checkpoint can be compared too
		return c, nil
	}
	model := glm.Survey(c.cfg, st.Tensors())
	for _, e := range model.Entries {
		if e.Source.Name != e.Name {
			c.stacked[e.Module] = e
			c.modules[e.Module] = true
		}
	}
	c.hints.Declared = c.declared()
	c.hints.Cols = func(module string) int {
		if row := c.cfg.Lookup(module + ".weight"); row != nil && len(row.Shape) == 2 {
			return int(row.Shape[1])
		}
		return 0
	}
	return c, nil
}

// declared says what config.json has a module's weight quantized to. Where it
// says nothing, several scales a row are those of int4 groups.
func (c *checkpoint) declared() func(module string) format.Weight {
	var d *declaration.Declaration
	if raw := c.cfg.QuantizationConfig; raw != nil {
		if read, err := declaration.Config(raw); err == nil { // else check says so
			d, c.unread = read, read.Unread()
		}
	}
	return func(module string) format.Weight {
		if d != nil {
			if w := d.Of(module).Weights(); w.Quantized() {
				return w
			}
		}
		if s, ok := c.Info(module + ".weight_scale"); ok && len(s.Shape) == 2 && s.Shape[1] > 1 {
			return format.Int4(0)
		}
		return format.Int8
	}
}

// weight is a module's weight as rows of float32, whatever its layout.
type weight struct {
	form       Form
	rows, cols int
	align      int
	bytes      int64
	parts      []safetensors.Info
	stored     layout.Stored // of a quantised weight

	// One of them: rows as stored, in buf if they fit, or rows of codes.
	floats func(lo, hi int, buf []byte) ([]byte, error)
	codes  func(lo, hi int, buf *layout.Buffer) (*numeric.Matrix, error)

	// What folds make of rows of widened codes; nil: nothing.
	scale func(lo int, dst []float32) error
}

// read widens rows.
func (w *weight) read(lo, hi int, dst []float32, p *piece) (err error) {
	if w.floats == nil {
		m, err := w.codes(lo, hi, &p.codes)
		if err != nil {
			return err
		}
		m.Dequant(dst, 0, hi-lo)
		if w.scale != nil {
			return w.scale(lo, dst)
		}
		return nil
	}
	if p.raw, err = w.floats(lo, hi, p.raw); err != nil {
		return err
	}
	return layout.DecodeFloats(dst, p.raw, w.parts[0].DType)
}

// weight finds a module's weight.
func (c *checkpoint) weight(module string) (*weight, error) {
	if e, ok := c.stacked[module]; ok {
		switch d := e.Source.DType; d {
		case safetensors.BF16, safetensors.F16, safetensors.F32:
		default:
			return nil, fmt.Errorf("%s is %s: codes of stacked experts are in no layout that is read here: %w", e.Source.Name, d, layout.ErrForeign)
		}
		return c.floats(e.Source, e.Offset, e.Shape, true), nil
	}
	s, err := layout.Lookup(c, module, c.hints)
	if err != nil {
		return nil, err
	}
	if !s.Quantized() {
		return c.floats(s.Codes, 0, s.Codes.Shape, false), nil
	}
	if c.unread != "" {
		return nil, fmt.Errorf("%s: %s: %w", module, c.unread, layout.ErrForeign)
	}
	w := &weight{form: Form{Weight: s.Quant}, rows: s.Rows, cols: s.Cols, align: s.RowAlign(), parts: s.Parts(), stored: s}
	for _, t := range w.parts {
		w.bytes += t.Size
	}
	w.codes = func(lo, hi int, buf *layout.Buffer) (*numeric.Matrix, error) {
		return buf.ReadRows(c.Checkpoint, s, lo, hi)
	}
	if c.fold != nil {
		w.scale = func(lo int, dst []float32) error {
			return c.fold.FoldFloats(module+".weight", int64(lo)*int64(s.Cols), dst)
		}
	}
	return w, nil
}

// floats is a full-precision tensor, or a part of a stacked one.
func (c *checkpoint) floats(t safetensors.Info, off int64, shape []int64, stacked bool) *weight {
	w := &weight{form: Form{DType: t.DType, Stacked: stacked}, rows: 1, cols: 1, align: 1, parts: []safetensors.Info{t}}
	if len(shape) > 0 {
		w.rows = int(shape[0])
	}
	for _, d := range shape[min(1, len(shape)):] {
		w.cols *= int(d)
	}
	width := int64(t.DType.Bits() / 8)
	w.bytes = int64(w.rows) * int64(w.cols) * width
	w.floats = func(lo, hi int, buf []byte) ([]byte, error) {
		row := int64(w.cols) * width
		n := int64(hi-lo) * row
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		return buf[:n], c.ReadAt(t, off+int64(lo)*row, buf[:n])
	}
	return w
}

// compare sums up the difference of two weights, and that of b from own, if
// there is one; else grid asks how b uses its codes.
func compare(ctx context.Context, name string, a, b *weight, own Rounder, grid bool, read func(int64)) (Module, error) {
	m := Module{Name: name, A: a.form, B: b.form, Elements: int64(a.rows) * int64(a.cols)}
	rest := a.bytes + b.bytes
	defer func() { read(rest) }() // rounding, or all of it
	if a.rows != b.rows || a.cols != b.cols {
		m.Why = fmt.Sprintf("[%d %d] against [%d %d]: nothing to compare", a.rows, a.cols, b.rows, b.cols)
		return m, nil
	}
	step := max(1, tile/max(1, a.cols))
	for _, n := range []int{a.align, b.align} {
		step = (step + n - 1) / n * n
	}
	// Steps are multiples of 1, 2 and 128: the larger is one of the smaller.
	step = (step + max(a.align, b.align) - 1) / max(a.align, b.align) * max(a.align, b.align)
	if own != nil {
		if n := own.Align(); n == 0 {
			step = a.rows
		} else {
			step = (step + n - 1) / n * n
		}
	}
	step = min(step, a.rows)
	p := pieces.Get().(*piece)
	defer pieces.Put(p)
	p.off = 0
	var t totals
	var sums gridSums
	if grid = grid && own == nil && b.codes != nil; grid {
		p.values, sums.pairs = gridValues(b.stored.Code()), &p.pairs
	}
	for lo := 0; lo < a.rows; lo += step {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		if p.grid = nil; grid && lo/step%gridSample == 0 {
			p.grid = &sums
		}
		hi := min(lo+step, a.rows)
		refused, err := p.compare(&t, a, b, own, lo, hi)
		if err != nil {
			return m, err
		}
		if refused != nil {
			m.Why = refused.Error()
			return m, nil
		}
		part := (a.bytes + b.bytes) * int64(hi-lo) / int64(a.rows)
		rest -= part
		read(part)
	}
	size := total(t.size)
	m.MaxAbs, m.Relative = Figure(t.top), root(total(t.diff), size)
	if own != nil {
		m.Own = &Own{root(total(t.ownDiff), size), root(total(t.off), total(t.ownSize))}
	}
	m.Grid, m.Unrounded = sums.grid(), p.off
	return m, nil
}

// root is √(part/whole), 0 for no part and infinite for a part of nothing.
func root(part, whole float64) Figure {
	switch {
	case part == 0:
		return 0
	case whole == 0:
		return Figure(math.Inf(1))
	}
	return Figure(math.Sqrt(part / whole))
}
