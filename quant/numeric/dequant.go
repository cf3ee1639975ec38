package numeric

import (
	"bytes"
	"math"
	"slices"
)

// ScaleAt returns the index of the scale of element (r, c).
func (m *Matrix) ScaleAt(r, c int) int {
	col := c / m.BlockCols
	if m.Order != nil {
		col = int(m.Order[c])
	}
	return r/m.BlockRows*m.ScaleCols() + col
}

// Scale returns the scale of element (r, c).
func (m *Matrix) Scale(r, c int) float32 { return m.Scales[m.ScaleAt(r, c)] }

// Value returns the code of element (r, c) as a number, less its zero point,
// before its scale.
func (m *Matrix) Value(r, c int) float32 {
	row := m.Codes[r*m.RowBytes():]
	if m.Code == Int8 || m.Code == Int4 {
		v := m.CodeAt(r, c)
		if m.Zeros != nil {
			v -= int(m.Zeros[m.ScaleAt(r, c)])
		}
		return float32(v)
	}
	if m.Code == E2M1 {
		return e2m1[row[c/2]>>(4*(c&1))&15]
	}
	return e4m3[row[c]]
}

// CodeAt returns the stored code of element (r, c): the signed integer of Int8
// and Int4, the bits of E4M3 and E2M1.
func (m *Matrix) CodeAt(r, c int) int {
	b := m.Codes[r*m.RowBytes()+c*m.Code.Bits()/8]
	switch m.Code {
	case E2M1:
		return int(b >> (4 * (c & 1)) & 15)
	case Int4:
		return int(SignExtend4(b >> (4 * (c & 1)) & 15))
	case Int8:
		return int(int8(b))
	}
	return int(b)
}

// Equal tells whether two matrices are stored alike: form, codes, and scales to
// the bit.
func (m *Matrix) Equal(o *Matrix) bool {
	if m.Code != o.Code || m.Rows != o.Rows || m.Cols != o.Cols || m.BlockRows != o.BlockRows || m.BlockCols != o.BlockCols {
		return false
	}
	if m.Global != o.Global || m.Times != o.Times || !bytes.Equal(m.ScaleCodes, o.ScaleCodes) {
		return false
	}
	if !slices.Equal(m.Zeros, o.Zeros) || !slices.Equal(m.Order, o.Order) {
		return false
	}
	return bytes.Equal(m.Codes, o.Codes) && slices.EqualFunc(m.Scales, o.Scales, func(a, b float32) bool {
		return math.Float32bits(a) == math.Float32bits(b)
	})
}

// Dequant writes rows lo..hi as float32, row-major, to dst
// ((hi−lo)·Cols values): (code − zero point) × scale, rounded once.
func (m *Matrix) Dequant(dst []float32, lo, hi int) {
	if m.Zeros != nil || m.Order != nil {
		m.dequantUneven(dst, lo, hi)
		return
	}
	sc, rb := m.ScaleCols(), m.RowBytes()
	for r := lo; r < hi; r++ {
		row, out := m.Codes[r*rb:][:rb], dst[(r-lo)*m.Cols:][:m.Cols]
		scales := m.Scales[r/m.BlockRows*sc:][:sc]
		for g, s := range scales {
			c1 := min((g+1)*m.BlockCols, m.Cols)
			switch m.Code {
			case Int4:
				dequantInt4(out, row, g*m.BlockCols, c1, s)
			case E2M1:
				for c := g * m.BlockCols; c < c1; c++ {
					out[c] = e2m1[row[c/2]>>(4*(c&1))&15] * s
				}
			case E4M3:
				dequantE4M3(out[g*m.BlockCols:c1], row[g*m.BlockCols:c1], s)
			default:
				c := g * m.BlockCols
				for c += dequantInt8Vector(out[c:c1], row[c:c1], s); c < c1; c++ {
					out[c] = float32(int8(row[c])) * s
				}
			}
		}
	}
}

// dequantUneven is Dequant with zero points or an order of columns.
func (m *Matrix) dequantUneven(dst []float32, lo, hi int) {
	for r := lo; r < hi; r++ {
		out := dst[(r-lo)*m.Cols:][:m.Cols]
		for c := range out {
			out[c] = m.Value(r, c) * m.Scale(r, c)
		}
	}
}

// dequantInt4 writes elements lo … hi−1 of a row of int4 codes times s to out.
func dequantInt4(out []float32, row []byte, lo, hi int, s float32) {
	var codes [chunkLen]byte
	for lo&1 == 0 && hi-lo >= lanes { // whole bytes, whole vectors
		n := min(hi-lo, chunkLen) &^ (lanes - 1)
		UnpackInt4(codes[:], row[lo/2:(lo+n)/2])
		if dequantInt8Vector(out[lo:lo+n], codes[:n], s) == 0 {
			break // there are none
		}
		lo += n
	}
	for ; lo < hi; lo++ {
		out[lo] = float32(SignExtend4(row[lo/2]>>(4*(lo&1))&15)) * s
	}
}
