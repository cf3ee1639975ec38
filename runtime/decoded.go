package runtime

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// Decode makes quantized weights float32 as they are read, tile by tile, and
// leaves inputs unquantized: the model that was quantized, as far as its codes
// tell. then, if it is not nil, may change the values of a tensor, from element at
// on. It is called before the first product.
func (s *Streaming) Decode(then func(name string, at int64, w []float32) error) {
	s.l.decode = func(name string, at int64, w []float32) error {
		if then == nil {
			return nil
		}
		return then(name, at, w)
	}
}

// decodedRows reads rows lo..hi of a quantized weight as float32.
func (l *loader) decodedRows(t *glm.Tensor, s layout.Stored, lo, hi int) (*Weight, error) {
	buf := new(layout.Buffer)
	if l.buffers != nil {
		if b, ok := l.buffers.codes.Get().(*layout.Buffer); ok {
			buf = b
		}
		defer l.buffers.codes.Put(buf)
	}
	m, err := buf.ReadRows(l.src, s, lo, hi)
	if err != nil {
		return nil, err
	}
	w := &Weight{Rows: m.Rows, Cols: m.Cols, Type: kernel.F32}
	l.space(w)
	values := numeric.FloatsIn(w.Data)
	there := values != nil
	if !there {
		values = make([]float32, m.Rows*m.Cols)
	}
	m.Dequant(values, 0, m.Rows)
	if err := l.decode(t.Name, int64(lo)*int64(m.Cols), values); err != nil {
		return nil, err
	}
	if !there {
		numeric.AppendF32(w.Data[:0], values)
	}
	return w, nil
}
