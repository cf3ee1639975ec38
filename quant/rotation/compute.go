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

// read fills p with the bytes of a tensor from off on.
func (v *View) read(t *tensor, p []byte, off int64) error {
	if t.raw || t.change.same() {
		return v.copied(t, p, off)
	}
	rows, cols := t.dims()
	size := int64(t.dtype.Bits() / 8)
	width := int64(cols) * size
	lo, hi := int(off/width), int(min((off+int64(len(p))+width-1)/width, int64(rows)))
	x, err := v.rows(t, lo, hi)
	if err != nil {
		return err
	}
	copy(p, encode(x, t.dtype)[off-int64(lo)*width:])
	return nil
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

func encode(x []float32, d safetensors.DType) []byte {
	switch d {
	case safetensors.BF16:
		return numeric.AppendBF16(make([]byte, 0, 2*len(x)), x)
	case safetensors.F16:
		out := make([]byte, 0, 2*len(x))
		for _, f := range x {
			b := numeric.F32ToF16(f)
			out = append(out, byte(b), byte(b>>8))
		}
		return out
	}
	return numeric.AppendF32(make([]byte, 0, 4*len(x)), x)
}

// rows returns rows lo … hi−1 of a tensor, rotated.
func (v *View) rows(t *tensor, lo, hi int) ([]float32, error) {
	rows, cols := t.dims()
	if t.change.ones {
		x := make([]float32, (hi-lo)*cols)
		for i := range x {
			x[i] = 1
		}
		return x, nil
	}
	if t.change.left == nil {
		return v.fromRight(t, lo, hi)
	}
	w := v.whole(t)
	w.once.Do(func() { w.x, w.err = v.fromLeft(t, rows, cols) })
	if w.err != nil {
		return nil, w.err
	}
	return w.x[lo*cols : hi*cols], nil
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
	if t.change.same() {
		return v.fromRight(t, lo, hi)
	}
	return v.rows(t, lo, hi)
}

// fromRight reads rows and applies what acts on columns.
func (v *View) fromRight(t *tensor, lo, hi int) ([]float32, error) {
	_, cols := t.dims()
	x := make([]float32, (hi-lo)*cols)
	if t.matrix {
		Rows(v.set.Stream, lo, hi, x)
		g := v.gains[v.rules.final]
		for i := range x {
			x[i] *= g[lo+i/cols]
		}
		return x, nil
	}
	size := t.entry.Source.DType.Bits() / 8
	raw := make([]byte, len(x)*size)
	if err := v.folded.ReadAt(t.entry.Source, t.entry.Offset+int64(lo)*int64(cols*size), raw); err != nil {
		return nil, err
	}
	if err := layout.DecodeFloats(x, raw, t.entry.Source.DType); err != nil {
		return nil, err
	}
	for at := 0; at < len(x); at += cols {
		row := x[at:][:cols]
		c := 0
		for _, name := range t.change.gains {
			for _, g := range v.gains[name] {
				row[c] *= g
				c++
			}
		}
		for _, b := range t.change.right {
			b.m.Row(row[b.at:][:b.m.Size()])
		}
	}
	return x, nil
}

// strip is how many columns are rotated from the left at a time: all rows of them
// stay in a core's cache.
const strip = 32

// fromLeft computes a whole weight.
func (v *View) fromLeft(t *tensor, rows, cols int) ([]float32, error) {
	x := make([]float32, 0, rows*cols)
	step := max(1, (1<<20)/cols)
	parts := (rows + step - 1) / step
	x = x[:rows*cols]
	errs := make([]error, parts)
	parallel(parts, func(i int) {
		lo, hi := i*step, min((i+1)*step, rows)
		part, err := v.fromRight(t, lo, hi)
		errs[i] = err
		copy(x[lo*cols:], part)
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	for _, b := range t.change.left {
		n := b.m.Size()
		parallel((cols+strip-1)/strip, func(i int) {
			c, w := i*strip, min(strip, cols-i*strip)
			buf := make([]float32, n*w)
			for r := range n {
				copy(buf[r*w:][:w], x[(b.at+r)*cols+c:])
			}
			b.m.Apply(buf, w)
			for r := range n {
				copy(x[(b.at+r)*cols+c:][:w], buf[r*w:])
			}
		})
	}
	return x, nil
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

// whole is a weight that was rotated from the left, kept for the next rows.
type whole struct {
	t    *tensor
	once sync.Once
	x    []float32
	err  error
}

// whole returns the place of a weight and forgets those that do not fit beside
// it, the oldest first.
func (v *View) whole(t *tensor) *whole {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.kept {
		if w.t == t {
			return w
		}
	}
	v.kept = append(v.kept, &whole{t: t})
	total := int64(0)
	for i := len(v.kept) - 1; i >= 0; i-- {
		if total += 4 * v.kept[i].t.entry.Elements(); total > v.o.Cache && i < len(v.kept)-1 {
			v.kept = append([]*whole(nil), v.kept[i+1:]...)
			break
		}
	}
	return v.kept[len(v.kept)-1]
}
