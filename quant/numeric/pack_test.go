package numeric

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawCodes draws a matrix of int4 codes, a byte each.
func drawCodes(t *rapid.T, even bool) (codes []byte, rows, cols int) {
	rows, cols = rapid.IntRange(1, 9).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "cols")
	if even {
		rows *= 2
	}
	codes = rapid.SliceOfN(rapid.Map(rapid.IntRange(-8, 7), func(v int) byte { return byte(int8(v)) }), rows*cols, rows*cols).Draw(t, "codes")
	return codes, rows, cols
}

func TestPackRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codes, rows, cols := drawCodes(t, true)
		packed := PackNibbles(nil, codes, cols)
		require.Len(t, packed, rows*((cols+1)/2))
		require.Equal(t, codes, UnpackNibbles(nil, packed, cols))

		words := AppendInt4Words(nil, packed, cols)
		perRow := (cols + 7) / 8
		require.Len(t, words, rows*perRow*4)
		for r := range rows {
			for c := range perRow * 8 {
				w := binary.LittleEndian.Uint32(words[(r*perRow+c/8)*4:])
				want := uint32(0) // tail: zero bits, not the code for zero
				if c < cols {
					want = uint32(int(int8(codes[r*cols+c])) + 8)
				}
				require.Equal(t, want, w>>(4*(c%8))&15, "row %d column %d", r, c)
			}
		}
		back, err := Int4FromWords(nil, words, cols)
		require.NoError(t, err)
		require.Equal(t, packed, back)

		pairs, err := AppendInt4RowPairs(nil, packed, cols)
		require.NoError(t, err)
		require.Len(t, pairs, rows/2*cols)
		for j := range rows / 2 {
			for k := range cols {
				require.Equal(t, codes[(2*j+1)*cols+k]<<4|codes[2*j*cols+k]&15, pairs[j*cols+k])
			}
		}
		back, err = Int4FromRowPairs(nil, pairs, cols)
		require.NoError(t, err)
		require.Equal(t, packed, back)
	})
}

func TestPackRefuses(t *testing.T) {
	_, err := AppendInt4RowPairs(nil, make([]byte, 3*4), 8)
	assert.ErrorContains(t, err, "odd number of rows")
	_, err = Int4FromWords(nil, make([]byte, 7), 8)
	assert.Error(t, err)
	_, err = Int4FromRowPairs(nil, make([]byte, 7), 8)
	assert.Error(t, err)
	m := &Matrix{Code: Int4, Rows: 1, Cols: 8, BlockRows: 1, BlockCols: 8, Codes: make([]byte, 4), Scales: []float32{1}}
	_, err = ScaleBias(m, 3)
	assert.ErrorContains(t, err, "8 columns do not split into 3 parts")
	m.Code = Int8
	_, err = ScaleBias(m, 1)
	assert.Error(t, err)
}

func TestScaleBiasSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codes, rows, cols := drawCodes(t, false)
		parts := rapid.SampledFrom([]int{1, 2, 4, 16}).Filter(func(p int) bool { return cols%p == 0 }).Draw(t, "parts")
		m := &Matrix{Code: Int4, Rows: rows, Cols: cols, BlockRows: 1, BlockCols: cols, Codes: PackNibbles(nil, codes, cols)}
		for range rows {
			m.Scales = append(m.Scales, rapid.Float32Range(1e-6, 1).Draw(t, "scale"))
		}
		bias, err := ScaleBias(m, parts)
		require.NoError(t, err)
		for i, got := range bias {
			r, sum := i/parts, 0
			for c := range cols / parts {
				sum += m.CodeAt(r, i%parts*(cols/parts)+c)
			}
			require.Equal(t, float32(8*float64(m.Scales[r])*float64(sum)), got)
		}
	})
}

// split cuts fuzz input into a width and whole rows of it.
func split(data []byte, rowBytes func(cols int) int) (cols int, rows []byte) {
	if len(data) == 0 {
		return 1, nil
	}
	cols = int(data[0])%64 + 1
	n := rowBytes(cols)
	data = data[1:]
	return cols, data[:len(data)/n*n]
}

func FuzzInt4Words(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		cols, words := split(data, func(c int) int { return (c + 7) / 8 * 4 })
		packed, err := Int4FromWords(nil, words, cols)
		require.NoError(t, err)
		again := AppendInt4Words(nil, packed, cols)
		require.Len(t, again, len(words))
		perRow := (cols + 7) / 8 * 4
		for i := range again { // equal but for the padding bits
			c := i % perRow * 2
			mask := byte(0xff)
			if c >= cols {
				mask = 0
			} else if c+1 >= cols {
				mask = 15
			}
			require.Equal(t, words[i]&mask, again[i])
		}
		if len(words) > 0 {
			_, err = Int4FromWords(nil, data, cols)
			if len(data)%perRow != 0 {
				require.Error(t, err)
			}
		}
	})
}

func FuzzInt4RowPairs(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		cols, pairs := split(data, func(c int) int { return c })
		packed, err := Int4FromRowPairs(nil, pairs, cols)
		require.NoError(t, err)
		again, err := AppendInt4RowPairs(nil, packed, cols)
		require.NoError(t, err)
		require.Equal(t, append([]byte{}, pairs...), append([]byte{}, again...))
	})
}

func FuzzNibbles(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		cols, codes := split(data, func(c int) int { return c })
		for i := range codes {
			codes[i] = byte(SignExtend4(codes[i] & 15))
		}
		back := UnpackNibbles(nil, PackNibbles(nil, codes, cols), cols)
		require.Equal(t, append([]byte{}, codes...), append([]byte{}, back...))
	})
}

func TestFirstOutsideInt4(t *testing.T) {
	for n := range 20 {
		q := make([]byte, n)
		for i := range q {
			q[i] = byte(i%16 - 8)
		}
		require.Equal(t, n, FirstOutsideInt4(q))
		for i := range q {
			for v := range 256 {
				was, want := q[i], n
				if q[i] = byte(v); int8(v) < -8 || int8(v) > 7 {
					want = i
				}
				require.Equal(t, want, FirstOutsideInt4(q), "%d at %d of %d", int8(v), i, n)
				q[i] = was
			}
		}
	}
}
