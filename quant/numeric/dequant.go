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
	for r := lo; r < hi; r++ {
		m.DequantColumns(dst[(r-lo)*m.Cols:], r, 0, m.Cols)
	}
}

// DequantColumns is Dequant of columns lo..hi of row r.
func (m *Matrix) DequantColumns(dst []float32, r, lo, hi int) {
	dst = dst[:hi-lo]
	if m.Zeros != nil || m.Order != nil {
		for i := range dst {
			dst[i] = m.Value(r, lo+i) * m.Scale(r, lo+i)
		}
		return
	}
	sc, rb := m.ScaleCols(), m.RowBytes()
	row, scales := m.Codes[r*rb:][:rb], m.Scales[r/m.BlockRows*sc:][:sc]
	c0 := lo
	if m.Code == E2M1 && lo%m.BlockCols == 0 && lo%2 == 0 {
		c0 += m.BlockCols * dequantE2M1Vector(dst, row[lo/2:], m.BlockCols, scales[lo/m.BlockCols:])
	}
	for c0 < hi {
		g := c0 / m.BlockCols
		c1 := min((g+1)*m.BlockCols, hi)
		out := dst[c0-lo : c1-lo]
		switch s := scales[g]; m.Code {
		case Int4:
			dequantInt4(out, row, c0, s)
		case E2M1:
			for i := range out {
				out[i] = e2m1[row[(c0+i)/2]>>(4*((c0+i)&1))&15] * s
			}
		case E4M3:
			dequantE4M3(out, row[c0:c1], s)
		default:
			i := dequantInt8Vector(out, row[c0:c1], s)
			for ; i < len(out); i++ {
				out[i] = float32(int8(row[c0+i])) * s
			}
		}
		c0 = c1
	}
}

// dequantInt4 writes the elements of a row of int4 codes from lo on times s.
func dequantInt4(out []float32, row []byte, lo int, s float32) {
	var codes [chunkLen]byte
	for lo&1 == 0 && len(out) >= lanes { // whole bytes, whole vectors
		n := min(len(out), chunkLen) &^ (lanes - 1)
		UnpackInt4(codes[:], row[lo/2:(lo+n)/2])
		if dequantInt8Vector(out[:n], codes[:n], s) == 0 {
			break // there are none
		}
		out, lo = out[n:], lo+n
	}
	for i := range out {
		out[i] = float32(SignExtend4(row[(lo+i)/2]>>(4*((lo+i)&1))&15)) * s
	}
}
