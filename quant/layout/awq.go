package layout

import (
	"encoding/binary"
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
)

// awq is the layout of AutoAWQ's version gemm and auto-round's auto_awq
// (docs/facts/formats.md 7):
//
//	P.qweight I32 [I,O/8]  P.qzeros I32 [G,O/8]  P.scales F16 [G,O]
//
// Nibble n of a word holds output 0 2 4 6 1 3 5 7 of its eight.
type awq struct{}

func (awq) Format() Format          { return AWQ }
func (awq) weightParams() []string  { return []string{"qweight"} }
func (awq) foreign() []foreignParam { return nil }

// awqNibble is the nibble of each of the eight outputs of a word.
var awqNibble = []int{0, 4, 1, 5, 2, 6, 3, 7}

func (awq) find(t *tensors, h Hints) (s Stored, ok bool, err error) {
	if s, ok, err = findColumns(t); !ok || err != nil {
		return s, ok, err
	}
	s.Format = AWQ
	if dim(s.Codes, 1)*8 != s.Rows {
		return s, true, fmt.Errorf("layout: %s %v beside scales %v is neither GPTQ nor AWQ of 4 bits: %w", s.Codes.Name, s.Codes.Shape, s.Scale.Shape, ErrForeign)
	}
	s.Cols = dim(s.Codes, 0)
	return s, true, s.columnGroups(4, format.AWQWords, h.declared(t.module))
}

func (awq) read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (*numeric.Matrix, error) {
	first, last := lo/8, (hi+7)/8
	raw, err := b.columns(r, s.Codes, s.Cols, s.Rows/8, first, last, 4)
	if err != nil {
		return nil, err
	}
	m := s.matrix(lo, hi)
	n, words := hi-lo, last-first
	wide := b.room(n * s.Cols)
	for c := range s.Cols {
		row := raw[c*words*4:][:words*4]
		for i := range n {
			at := lo + i
			w := binary.LittleEndian.Uint32(row[(at/8-first)*4:])
			wide[i*s.Cols+c] = byte(w>>(4*awqNibble[at%8])&15) - 8
		}
	}
	m.Codes = b.asCodes(m, wide)
	return m, s.readColumnGroups(b, r, m, lo, hi, awqNibble)
}
