package fold

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/glmconv/glmconv/safetensors"
)

// ErrRange is matched by errors about values that a fold would round: they
// would leave the range of normal numbers of their type.
var ErrRange = errors.New("fold leaves the range of the type")

// RangeError is a value that a fold cannot scale exactly.
type RangeError struct {
	Tensor   string
	Row, Col int
	Exponent int // of the power of two that it would be multiplied by
	DType    safetensors.DType
}

// Error says which value, and by what it would have been multiplied.
func (e *RangeError) Error() string {
	return fmt.Sprintf("%s[%d, %d]: times 2^%d is no normal %s: the fold would round it", e.Tensor, e.Row, e.Col, e.Exponent, e.DType)
}

// Is matches ErrRange.
func (e *RangeError) Is(target error) bool { return target == ErrRange }

// Scaling is what the folds of a model make of one tensor [rows, cols]: element
// (r, c) is multiplied by 2^(Rows[r] + Cols[c]). Vectors have one column. Nil
// exponents are zeros.
type Scaling struct {
	Rows, Cols []int16
	rows, cols int
}

// float is how a type stores numbers.
type float struct {
	size     int
	mantissa int // bits
	exponent int // bits
}

func floatOf(d safetensors.DType) (float, bool) {
	switch d {
	case safetensors.BF16:
		return float{2, 7, 8}, true
	case safetensors.F16:
		return float{2, 10, 5}, true
	case safetensors.F32:
		return float{4, 23, 8}, true
	}
	return float{}, false
}

// Apply scales stored elements in place: b begins with element at of the
// tensor, row-major. Zeros, infinities and NaN stay. A nil Scaling changes
// nothing. Errors match ErrRange, or say that the type is none of BF16, F16 and
// F32; name is for them.
func (s *Scaling) Apply(b []byte, d safetensors.DType, at int64, name string) error {
	if s == nil || len(b) == 0 {
		return nil
	}
	f, ok := floatOf(d)
	if !ok {
		return fmt.Errorf("%s: is %s, folds scale BF16, F16 and F32", name, d)
	}
	row, col := int(at/int64(s.cols)), int(at%int64(s.cols))
	for len(b) > 0 {
		n := min(s.cols-col, len(b)/f.size)
		if n == 0 || row >= s.rows {
			return fmt.Errorf("%s: %d bytes more than [%d, %d] of %s", name, len(b), s.rows, s.cols, d)
		}
		var up int16
		if s.Rows != nil {
			up = s.Rows[row]
		}
		if bad, by := f.scale(b[:n*f.size], up, s.columns(col, n)); bad >= 0 {
			return &RangeError{name, row, col + bad, int(by), d}
		}
		b, row, col = b[n*f.size:], row+1, 0
	}
	return nil
}

// columns returns the exponents of n columns; nil for none.
func (s *Scaling) columns(col, n int) []int16 {
	if s.Cols == nil {
		return nil
	}
	return s.Cols[col : col+n]
}

// scale multiplies a run of elements and returns the first that it cannot
// scale, and by what.
func (f float) scale(b []byte, row int16, cols []int16) (bad int, by int16) {
	if cols == nil && row == 0 {
		return -1, 0
	}
	top := int32(1)<<f.exponent - 1
	for i := range len(b) / f.size {
		k := row
		if cols != nil {
			k += cols[i]
		}
		if k == 0 {
			continue
		}
		p := b[i*f.size:]
		var v uint32
		if f.size == 2 {
			v = uint32(binary.LittleEndian.Uint16(p))
		} else {
			v = binary.LittleEndian.Uint32(p)
		}
		e := int32(v>>f.mantissa) & top
		if e == top || v&(1<<(8*f.size-1)-1) == 0 {
			continue // infinite, NaN or zero
		}
		to := e + int32(k)
		if e == 0 || to < 1 || to >= top {
			return i, k
		}
		v += uint32(int32(k) << f.mantissa)
		if f.size == 2 {
			binary.LittleEndian.PutUint16(p, uint16(v))
		} else {
			binary.LittleEndian.PutUint32(p, v)
		}
	}
	return -1, 0
}

// Undo returns the scaling that takes s back.
func (s *Scaling) Undo() *Scaling {
	out := &Scaling{rows: s.rows, cols: s.cols}
	for _, x := range []struct {
		to   *[]int16
		from []int16
	}{{&out.Rows, s.Rows}, {&out.Cols, s.Cols}} {
		for _, e := range x.from {
			*x.to = append(*x.to, -e)
		}
	}
	return out
}
