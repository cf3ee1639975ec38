package rotation

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// dims are the rows and columns of a tensor; vectors are one row.
func (t *tensor) dims() (rows, cols int) {
	s := t.entry.Shape
	if len(s) < 2 {
		return 1, int(t.entry.Elements())
	}
	cols = 1
	for _, d := range s[1:] {
		cols *= int(d)
	}
	return int(s[0]), cols
}

// piece is about how many values are rotated at a time: they stay in a core's
// cache until they are encoded.
const piece = 64 << 10

// read fills p with the bytes of a tensor from off on.
func (v *View) read(t *tensor, p []byte, off int64) error {
	if t.raw || t.change.same() {
		return v.copied(t, p, off)
	}
	rows, cols := t.dims()
	width := int64(cols) * int64(t.dtype.Bits()/8)
	step := max(1, piece/cols/BlockRows) * BlockRows
	at, end := off, off+int64(len(p))
	buf := v.buffers.Get().(*buffers)
	defer v.buffers.Put(buf)
	for at < end {
		lo := int(at / width)
		hi := min(lo/BlockRows*BlockRows+step, rows, int((end+width-1)/width))
		skip, n := at-int64(lo)*width, int(min(int64(hi)*width, end)-at)
		whole := skip == 0 && n == (hi-lo)*int(width)
		if whole && t.dtype == safetensors.F32 {
			buf.into = numeric.FloatsIn(p[:n])
		}
		x, err := v.rows(t, lo, hi, buf)
		into := buf.into
		buf.into = nil
		if err != nil {
			return err
		}
		switch {
		case into != nil && &x[0] == &into[0]: // there already
		case whole:
			encode(p[:0:n], x, t.dtype)
		default:
			copy(p[:n], encode(nil, x, t.dtype)[skip:])
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// buffers are what one read reuses from piece to piece.
type buffers struct {
	raw  []byte
	x    []float32
	into []float32 // where the next rows go if they fill it, instead of x
}

// floats returns room for n values.
func (b *buffers) floats(n int) []float32 {
	if len(b.into) == n {
		return b.into
	}
	return grown(&b.x, n)
}

// grown returns n values of a buffer.
func grown[T any](b *[]T, n int) []T {
	if cap(*b) < n {
		*b = make([]T, n)
	}
	return (*b)[:n]
}

// copied fills p with bytes of a tensor that no rotation changes; folds scale
// whole elements.
func (v *View) copied(t *tensor, p []byte, off int64) error {
	size := int64(max(t.entry.Source.DType.Bits()/8, 1))
	lo, hi := off/size*size, (off+int64(len(p))+size-1)/size*size
	if lo == off && hi == off+int64(len(p)) {
		return v.folded.ReadAt(t.entry.Source, t.entry.Offset+off, p)
	}
	whole := make([]byte, hi-lo)
	err := v.folded.ReadAt(t.entry.Source, t.entry.Offset+lo, whole)
	copy(p, whole[off-lo:])
	return err
}

// encode appends values as a tensor of dtype d holds them.
func encode(to []byte, x []float32, d safetensors.DType) []byte {
	switch d {
	case safetensors.BF16:
		return numeric.AppendBF16(to, x)
	case safetensors.F16:
		for _, f := range x {
			b := numeric.F32ToF16(f)
			to = append(to, byte(b), byte(b>>8))
		}
		return to
	}
	return numeric.AppendF32(to, x)
}

// Rows returns rows lo … hi−1 of a tensor of the view.
func (v *View) Rows(name string, lo, hi int) ([]float32, error) {
	t := v.made[name]
	if t == nil || t.raw {
		return nil, fmt.Errorf("rotation: %s is not in the source", name)
	}
	if rows, _ := t.dims(); lo < 0 || hi > rows || lo > hi {
		return nil, fmt.Errorf("rotation: rows %d … %d of %s, which has %d", lo, hi, name, rows)
	}
	return v.rows(t, lo, hi, new(buffers))
}

// rows returns rows lo … hi−1 of a tensor, rotated. They lie in buf.
func (v *View) rows(t *tensor, lo, hi int, buf *buffers) ([]float32, error) {
	_, cols := t.dims()
	switch {
	case t.change.ones:
		x := buf.floats((hi - lo) * cols)
		for i := range x {
			x[i] = 1
		}
		return x, nil
	case t.change.left == nil:
		x := buf.floats((hi - lo) * cols)
		if err := v.source(t, lo, hi, x, buf); err != nil {
			return nil, err
		}
		v.columns(t, x, cols)
		return x, nil
	}
	w := v.whole(t)
	defer v.leave(w, hi-lo)
	w.once.Do(func() { w.err = v.fromLeft(w) })
	if w.err != nil {
		return nil, w.err
	}
	x := w.rows(lo, hi, buf)
	v.columns(t, x, cols)
	return x, nil
}

// source reads rows as they are before a rotation.
func (v *View) source(t *tensor, lo, hi int, x []float32, buf *buffers) error {
	_, cols := t.dims()
	if t.matrix {
		Rows(v.set.Stream, lo, hi, x)
		for i, g := range v.gains[v.rules.final][lo:hi] {
			scale(x[i*cols:][:cols], g)
		}
		return nil
	}
	size := t.entry.Source.DType.Bits() / 8
	raw := grown(&buf.raw, len(x)*size)
	if err := v.folded.ReadAt(t.entry.Source, t.entry.Offset+int64(lo)*int64(cols*size), raw); err != nil {
		return err
	}
	return layout.DecodeFloats(x, raw, t.entry.Source.DType)
}

// columns multiplies rows by gains and rotates them from the right. Gains and the
// signs of a rotation are one factor.
func (v *View) columns(t *tensor, x []float32, cols int) {
	c := &t.change
	if c.gains == nil && c.right == nil {
		return
	}
	t.factored.Do(func() { t.factors = v.factors(c, cols) })
	for at := 0; at < len(x); at += cols {
		row := x[at:][:cols]
		multiply(row, t.factors)
		for _, b := range c.right {
			if h, ok := b.m.(*Hadamard); ok {
				h.unsigned(row[b.at:][:h.n])
			} else {
				b.m.Row(row[b.at:][:b.m.Size()])
			}
		}
	}
}

// factors are what columns are multiplied by before they are rotated.
func (v *View) factors(c *change, cols int) []float32 {
	f := make([]float32, cols)
	for i := range f {
		f[i] = 1
	}
	at := 0
	for _, name := range c.gains {
		at += copy(f[at:], v.gains[name])
	}
	for _, b := range c.right {
		if h, ok := b.m.(*Hadamard); ok {
			multiply(f[b.at:][:h.n], h.signs)
		}
	}
	return f
}

// parallel calls fn for 0 … n−1 on all cores.
func parallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	workers := min(n, runtime.GOMAXPROCS(0))
	for k := range workers {
		wg.Go(func() {
			for i := k; i < n; i += workers {
				fn(i)
			}
		})
	}
	wg.Wait()
}
