package fold

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/x448/float16"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Factors are what folds by any factors make of a model's tensors, by name in the
// family's table. Other tools smooth with them (SmoothQuant, arXiv 2211.10438;
// AWQ, arXiv 2306.00978): each tensor is rounded once more.
type Factors map[string]*Factor

// Factor is what folds make of one tensor [rows, cols]: element (r, c) is
// multiplied by Rows[r]·Cols[c] and rounded to the stored type. Nil factors are 1.
type Factor struct {
	Rows, Cols []float64
	rows, cols int
}

// Put adds the fold of a site: channel j of the producer is divided by t[j], column
// j of every consumer multiplied by it.
func (f Factors) Put(s *Site, t []float64) {
	for _, p := range s.Producers {
		x := f.of(&p)
		x.Rows = p.times(x.Rows, x.rows, t, true)
	}
	for _, p := range s.Consumers {
		x := f.of(&p)
		x.Cols = p.times(x.Cols, x.cols, t, false)
	}
}

// of returns the factor of a part's tensor, which it adds.
func (f Factors) of(p *Part) *Factor {
	x := f[p.Tensor.Name]
	if x == nil {
		x = &Factor{rows: int(p.Tensor.Shape[0]), cols: 1}
		if len(p.Tensor.Shape) > 1 {
			x.cols = int(p.Tensor.Shape[1])
		}
		f[p.Tensor.Name] = x
	}
	return x
}

// times multiplies factors of rows or columns by those of their channels, or
// divides them.
func (p *Part) times(to []float64, n int, t []float64, divide bool) []float64 {
	if to == nil {
		to = make([]float64, n)
		for i := range to {
			to[i] = 1
		}
	}
	for i := range to {
		c := p.Channel(i)
		switch {
		case c < 0:
		case divide:
			to[i] /= t[c]
		default:
			to[i] *= t[c]
		}
	}
	return to
}

// by is the factor of an element.
func (f *Factor) by(row, col int) float64 {
	v := 1.0
	if f.Rows != nil {
		v = f.Rows[row]
	}
	if f.Cols != nil {
		v *= f.Cols[col]
	}
	return v
}

// Apply multiplies stored elements in place and rounds them, ties to even: b begins
// with element at of the tensor, row-major. The error says that the type is none of
// BF16, F16 and F32, or that there are more elements than the tensor has.
func (f *Factor) Apply(b []byte, d safetensors.DType, at int64, name string) error {
	t, ok := floatOf(d)
	if !ok {
		return fmt.Errorf("%s: is %s, folds scale BF16, F16 and F32", name, d)
	}
	if n := int64(f.rows) * int64(f.cols); at+int64(len(b)/t.size) > n {
		return fmt.Errorf("%s: more than its %d elements", name, n)
	}
	row, col := int(at/int64(f.cols)), int(at%int64(f.cols))
	for ; len(b) >= t.size; b = b[t.size:] {
		by := f.by(row, col)
		switch d {
		case safetensors.BF16:
			v := math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
			v = numeric.RoundBF16(float32(float64(v) * by))
			binary.LittleEndian.PutUint16(b, uint16(math.Float32bits(v)>>16))
		case safetensors.F16:
			v := float16.Frombits(binary.LittleEndian.Uint16(b)).Float32()
			binary.LittleEndian.PutUint16(b, float16.Fromfloat32(float32(float64(v)*by)).Bits())
		default:
			v := math.Float32frombits(binary.LittleEndian.Uint32(b))
			binary.LittleEndian.PutUint32(b, math.Float32bits(float32(float64(v)*by)))
		}
		if col++; col == f.cols {
			row, col = row+1, 0
		}
	}
	return nil
}
