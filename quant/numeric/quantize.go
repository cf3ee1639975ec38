package numeric

import (
	"fmt"
	"math"
)

// Scratch holds the buffers of Quantize, so that a worker allocates once and
// not for every tile. The zero value is ready; it is not for concurrent use.
type Scratch struct {
	spec   Spec
	m      Matrix
	codes  []byte
	scales []float32
	blocks []blockScale
	row    []byte // codes of one row, a byte each
	spare  []byte // codes of one searched group
	group  []groupFit
}

// Quantize quantises a tile of whole rows, src[rows, cols] row-major, and
// returns the codes, the scales as the layout stores them, and the error.
//
// For block scales the rows must start at a multiple of BlockRows in the
// weight. Then codes and scales do not depend on how a weight is cut into tiles,
// except that Compat int4 of Ascend takes a tile for the whole weight unless
// Spec.SSZSteps is set. Stats of tiles add up to the last bits of float64.
//
// The Matrix is valid until the next call with the same scratch; without
// scratch it is the caller's. Errors wrap ErrSpec or ErrShape; a NaN or
// infinity is refused with a *NonFiniteError.
func Quantize(spec Spec, src []float32, rows, cols int, scratch *Scratch) (*Matrix, Stats, error) {
	if err := spec.check(rows, cols, len(src)); err != nil {
		return nil, Stats{}, err
	}
	if scratch == nil {
		scratch = new(Scratch)
	}
	src = src[:rows*cols]
	if i := FirstNonFinite(src); i >= 0 {
		return nil, Stats{}, &NonFiniteError{Row: i / cols, Col: i % cols, Value: src[i]}
	}
	scratch.spec = spec
	m := scratch.matrix(rows, cols)
	st := Stats{Elements: int64(rows) * int64(cols)}
	if spec.Code == Int4 && spec.Rule == Ascend && spec.Arith == Compat {
		scratch.ssz(src, &st)
		return m, st, nil
	}
	for r := 0; r < rows; r += m.BlockRows {
		n := min(m.BlockRows, rows-r)
		band := src[r*cols : (r+n)*cols]
		scales := m.Scales[r/m.BlockRows*m.ScaleCols():][:m.ScaleCols()]
		switch {
		case spec.Code != Int4 || spec.Arith == Compat:
			scratch.plain(band, r, scales, &st)
		case spec.FP8Scales:
			scratch.fp8Row(band, r, scales, &st)
		default:
			scratch.searchRow(band, r, scales, &st)
		}
	}
	return m, st, nil
}

// check refuses what the rules do not define.
func (s *Spec) check(rows, cols, have int) error {
	if rows < 0 || cols <= 0 || have/cols < rows {
		return fmt.Errorf("%w: %d values given for [%d, %d]", ErrShape, have, rows, cols)
	}
	if s.Arith > Compat || s.BlockRows < 0 || s.BlockCols < 0 {
		return fmt.Errorf("%w: arithmetic %d, blocks of %d×%d", ErrSpec, s.Arith, s.BlockRows, s.BlockCols)
	}
	ints := s.Code == Int8 || s.Code == Int4
	ok := s.Code == E4M3 && s.Rule == DeepSeekBlock
	switch s.Rule {
	case CompressedTensors:
		ok = s.Code == E4M3 || ints && s.BlockRows <= 1
	case Ascend:
		ok = ints && s.BlockRows <= 1 && (s.BlockCols == 0 || s.BlockCols == cols)
	}
	if !ok {
		return fmt.Errorf("%w: code format %d with scale rule %d and blocks of %d×%d",
			ErrSpec, s.Code, s.Rule, s.BlockRows, s.BlockCols)
	}
	if s.FP8Scales && (s.Code != Int4 || s.Rule != CompressedTensors) {
		return fmt.Errorf("%w: scales for the FP8 conversion belong to int4 of compressed-tensors", ErrSpec)
	}
	if s.BlockRows <= 1 && s.BlockCols > 0 && cols%s.BlockCols != 0 {
		return fmt.Errorf("%w: %d columns are not a multiple of the group size %d", ErrShape, cols, s.BlockCols)
	}
	if s.Code == Int4 && s.BlockCols%2 != 0 && s.BlockCols != cols {
		return fmt.Errorf("%w: group size %d is odd", ErrSpec, s.BlockCols)
	}
	return nil
}

// matrix shapes the result in the scratch buffers.
func (x *Scratch) matrix(rows, cols int) *Matrix {
	s := &x.spec
	x.m = Matrix{Code: s.Code, Rows: rows, Cols: cols, BlockRows: max(s.BlockRows, 1), BlockCols: s.BlockCols}
	if s.BlockCols == 0 {
		x.m.BlockCols = cols
	}
	x.codes = resize(x.codes, rows*x.m.RowBytes())
	x.scales = resize(x.scales, x.m.ScaleRows()*x.m.ScaleCols())
	x.blocks = resize(x.blocks, x.m.ScaleCols())
	x.group = resize(x.group, x.m.ScaleCols())
	x.row = resize(x.row, cols)
	x.m.Codes, x.m.Scales = x.codes, x.scales
	return &x.m
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// plain quantises a band of rows that share a row of scales by the absmax
// formula.
func (x *Scratch) plain(band []float32, r int, scales []float32, st *Stats) {
	s, m, cols := &x.spec, &x.m, x.m.Cols
	for b := range scales {
		lo, hi := b*m.BlockCols, min((b+1)*m.BlockCols, cols)
		var top uint32
		for o := 0; o < len(band); o += cols {
			top = max(top, absMaxBits(band[o+lo:o+hi]))
		}
		x.blocks[b] = x.settle(s.plainScale(math.Float32frombits(top)), band, cols, lo, hi)
		scales[b] = x.blocks[b].stored
	}
	for o := 0; o < len(band); o += cols {
		var e runError
		for b := range scales {
			lo, hi := b*m.BlockCols, min((b+1)*m.BlockCols, cols)
			k := &x.blocks[b]
			e.add(encode(x.row[lo:hi], band[o+lo:o+hi], s.Code, k.by, k.factor, k.stored))
		}
		x.store(r + o/cols)
		st.addRun(e, e.errSq)
	}
}

// store copies the row buffer into the matrix, two int4 codes to a byte.
func (x *Scratch) store(r int) {
	m := &x.m
	dst := m.Codes[r*m.RowBytes():][:m.RowBytes()]
	if m.Code == Int4 {
		PackNibbles(dst[:0], x.row, m.Cols)
		return
	}
	copy(dst, x.row)
}

func (s *Stats) addRun(e runError, plain float64) {
	s.SumSq += e.sumSq
	s.SumErrSq += e.errSq
	s.PlainSq += plain
	s.MaxErr = max(s.MaxErr, float64(e.maxErr))
}
