package layout

import (
	"encoding/binary"
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// What the readers of several formats share.

// readNibbles reads rows of FP4 codes, the even column in the low half of a
// byte, and their scales. times says that the global scale multiplies.
func (b *Buffer) readNibbles(r TensorReader, s *Stored, lo, hi int, times bool) (m *numeric.Matrix, err error) {
	m = s.matrix(lo, hi)
	if m.Codes, err = b.bytes(r, s.Codes, lo, hi, s.Cols/2); err != nil {
		return nil, err
	}
	if s.Quant.Strategy != format.TensorGroup {
		return m, s.readScales(r, m, lo)
	}
	n := m.ScaleCols()
	m.ScaleCodes = make([]byte, m.Rows*n)
	if err := r.ReadAt(s.Scale, int64(lo*n), m.ScaleCodes); err != nil {
		return nil, err
	}
	if m.Global, err = s.number(r, s.Global); err != nil {
		return nil, err
	}
	m.Times = times
	m.Scales = make([]float32, len(m.ScaleCodes))
	for i, c := range m.ScaleCodes {
		v := numeric.E4M3ToF32(c)
		switch {
		case v != v:
			return nil, fmt.Errorf("layout: %s: row %d, group %d is NaN: %w", s.Scale.Name, lo+i/n, i%n, ErrMalformed)
		case times:
			m.Scales[i] = v * m.Global
		default:
			m.Scales[i] = v / m.Global
		}
	}
	return m, nil
}

// number reads a tensor of one positive number.
func (s *Stored) number(r TensorReader, t safetensors.Info) (float32, error) {
	if t.Elements() != 1 {
		return 0, fmt.Errorf("layout: %s has shape %v, it is one number: %w", t.Name, t.Shape, ErrMalformed)
	}
	v, err := readFloats(r, t, 0, 1)
	if err != nil {
		return 0, err
	}
	if !(v[0] > 0) || v[0] > 3.4e38 {
		return 0, fmt.Errorf("layout: %s is %v, a scale is positive and finite: %w", t.Name, v[0], ErrMalformed)
	}
	return v[0], nil
}

// GlobalScale returns what the local scales of an NVFP4 weight are multiplied by.
func (s *Stored) GlobalScale(r TensorReader) (float32, error) {
	v, err := s.number(r, s.Global)
	if err == nil && s.Format == CompressedTensors {
		v = 1 / v
	}
	return v, err
}

// InputScale returns the number that quantized inputs of the module are
// multiplied by: of static inputs, or the scale of their local scales (NVFP4).
// ok is false where the checkpoint holds none.
func (s *Stored) InputScale(r TensorReader) (scale float32, ok bool, err error) {
	if s.Input.Name == "" {
		return 0, false, nil
	}
	v, err := s.number(r, s.Input)
	if err == nil && s.Format == CompressedTensors && s.Quant.Strategy == format.TensorGroup {
		v = 1 / v // input_global_scale divides
	}
	return v, err == nil, err
}

// ReadOrder reads the group of each column; nil where columns lie in the order
// of their groups.
func (s *Stored) ReadOrder(r TensorReader) ([]int32, error) {
	if s.Order.Name == "" {
		return nil, nil
	}
	return s.readOrder(r, dim(s.Scale, 0))
}

// readOrder reads the group of each column; nil where it is the plain order.
func (s *Stored) readOrder(r TensorReader, groups int) ([]int32, error) {
	size := int64(4)
	switch s.Order.DType {
	case safetensors.I32:
	case safetensors.I64:
		size = 8
	default:
		return nil, fmt.Errorf("layout: %s is %s, the groups of columns are integers: %w", s.Order.Name, s.Order.DType, ErrForeign)
	}
	raw := make([]byte, int64(s.Cols)*size)
	if err := r.ReadAt(s.Order, 0, raw); err != nil {
		return nil, err
	}
	out := make([]int32, s.Cols)
	_, width := s.Quant.Extent(s.Rows, s.Cols)
	plain := true
	for i := range out {
		v := int64(int32(binary.LittleEndian.Uint32(raw[int64(i)*size:])))
		if size == 8 {
			v = int64(binary.LittleEndian.Uint64(raw[i*8:]))
		}
		if v < 0 || v >= int64(groups) {
			return nil, fmt.Errorf("layout: %s: column %d is in group %d of %d: %w", s.Order.Name, i, v, groups, ErrMalformed)
		}
		out[i] = int32(v)
		plain = plain && int(v) == i/width
	}
	if plain {
		return nil, nil
	}
	return out, nil
}

// room returns n bytes of the buffer for codes, a byte each.
func (b *Buffer) room(n int) []byte {
	if cap(b.wide) < n {
		b.wide = make([]byte, n)
	}
	return b.wide[:n]
}

// asCodes gives codes of a byte each the form of the matrix.
func (b *Buffer) asCodes(m *numeric.Matrix, wide []byte) []byte {
	if m.Code != numeric.Int4 {
		return wide
	}
	b.codes = numeric.PackNibbles(b.codes[:0], wide, m.Cols)
	return b.codes
}

// columns reads columns lo..hi of a tensor of rows of n words of 32 bits (or
// of another size), row by row unless it is all of them.
func (b *Buffer) columns(r TensorReader, t safetensors.Info, rows, n, lo, hi, size int) ([]byte, error) {
	width := (hi - lo) * size
	if cap(b.stored) < rows*width {
		b.stored = make([]byte, rows*width)
	}
	b.stored = b.stored[:rows*width]
	if width == n*size {
		return b.stored, r.ReadAt(t, 0, b.stored)
	}
	for i := range rows {
		if err := r.ReadAt(t, int64((i*n+lo)*size), b.stored[i*width:][:width]); err != nil {
			return nil, err
		}
	}
	return b.stored, nil
}
