package numeric

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

// drawUneven is a matrix of integers with zero points, an order of columns, or
// both.
func drawUneven(t *rapid.T) *Matrix {
	m := &Matrix{Code: rapid.SampledFrom([]Code{Int8, Int4}).Draw(t, "code"), Rows: rapid.IntRange(1, 6).Draw(t, "rows"), BlockRows: 1,
		BlockCols: rapid.IntRange(1, 9).Draw(t, "group"), Cols: rapid.IntRange(1, 20).Draw(t, "cols")}
	m.Codes = rapid.SliceOfN(rapid.Byte(), m.Rows*m.RowBytes(), m.Rows*m.RowBytes()).Draw(t, "codes")
	n := m.Rows * m.ScaleCols()
	m.Scales = rapid.SliceOfN(rapid.Float32Range(-2, 2), n, n).Draw(t, "scales")
	if rapid.Bool().Draw(t, "zeros") {
		m.Zeros = rapid.SliceOfN(rapid.Int16Range(-128, 128), n, n).Draw(t, "zero points")
	}
	if rapid.Bool().Draw(t, "order") {
		m.Order = rapid.SliceOfN(rapid.Int32Range(0, int32(m.ScaleCols())-1), m.Cols, m.Cols).Draw(t, "order of columns")
	}
	return m
}

// TestUnevenMatrix: an element is its code less the zero point of its group,
// times the scale of its group, in the whole and in every slice; and a matrix
// equals only those that stand for the same in the same way.
func TestUnevenMatrix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawUneven(t)
		all := make([]float32, m.Rows*m.Cols)
		m.Dequant(all, 0, m.Rows)
		for r := range m.Rows {
			for c := range m.Cols {
				g := c / m.BlockCols
				if m.Order != nil {
					g = int(m.Order[c])
				}
				code := m.CodeAt(r, c)
				if m.Zeros != nil {
					code -= int(m.Zeros[r*m.ScaleCols()+g])
				}
				assert.Equal(t, float32(code)*m.Scales[r*m.ScaleCols()+g], all[r*m.Cols+c])
			}
		}
		lo := rapid.IntRange(0, m.Rows-1).Draw(t, "lo")
		hi := rapid.IntRange(lo+1, m.Rows).Draw(t, "hi")
		part := make([]float32, (hi-lo)*m.Cols)
		s := m.Slice(lo, hi)
		s.Dequant(part, 0, s.Rows)
		assert.Equal(t, all[lo*m.Cols:hi*m.Cols], part)

		o := *m
		assert.True(t, m.Equal(&o))
		assert.Equal(t, m.Zeros == nil && m.Order == nil, m.Plain())
		o.Zeros = make([]int16, len(m.Scales))
		if m.Zeros != nil {
			copy(o.Zeros, m.Zeros)
			o.Zeros[0]++
		}
		assert.False(t, m.Equal(&o))
		o = *m
		o.Order = make([]int32, m.Cols)
		if m.Order != nil {
			o.Order = nil
		}
		assert.False(t, m.Equal(&o))
	})
}

// TestGlobalScalesEitherWay: the same numbers below a global scale that divides
// and one that multiplies are not stored alike.
func TestGlobalScalesEitherWay(t *testing.T) {
	m := &Matrix{Code: E2M1, Rows: 1, Cols: 16, BlockRows: 1, BlockCols: 16, Codes: make([]byte, 8), Scales: []float32{2}, ScaleCodes: []byte{0x40}, Global: 1}
	o := *m
	o.Times = true
	assert.False(t, m.Equal(&o))
}
