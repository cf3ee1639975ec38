package numeric

import (
	"fmt"
	"math"
)

// Scratch holds the buffers of Quantize, so that a worker allocates once and
// not for every tile. The zero value is ready; it is not for concurrent use.
type Scratch struct {
	spec   Spec
	src    weights
	m      Matrix
	codes  []byte
	into   []byte // instead of codes, once
	scales []float32
	floats []float32 // decoded weights of one band or block
	row    []byte    // codes of one row or block, a byte each
	spare  []byte    // codes of one searched group
	group  []groupFit
	micro  []byte // scales of a byte
	tables []recoding
	groups groups
	global float32
}

// Into has the next matrix's codes put into buf if they fit, and only the next.
func (x *Scratch) Into(buf []byte) { x.into = buf }

// Below gives the global scale for specs that have none: that of a stored
// weight which the result is to be compared with.
func (x *Scratch) Below(global float32) { x.global = global }

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
	return quantize(spec, weights{floats: src}, rows, cols, scratch)
}

// QuantizeBytes is Quantize for weights as a checkpoint stores them. They are
// widened a band or a block at a time, which keeps them in the innermost cache.
func QuantizeBytes(spec Spec, src []byte, d Decoder, rows, cols int, scratch *Scratch) (*Matrix, Stats, error) {
	w := weights{raw: src, Decoder: d}
	if d.F32 {
		if x := FloatsIn(src); x != nil {
			w = weights{floats: x}
		}
	}
	return quantize(spec, w, rows, cols, scratch)
}

func quantize(spec Spec, src weights, rows, cols int, x *Scratch) (*Matrix, Stats, error) {
	if x == nil {
		x = new(Scratch)
	}
	if spec.Rule == NVFP4 && spec.Global == 0 {
		spec.Global = x.global
	}
	if err := spec.check(rows, cols, src.len()); err != nil {
		return nil, Stats{}, err
	}
	x.spec, x.src = spec, src
	defer func() { x.src = weights{} }()
	m := x.matrix(rows, cols)
	st := Stats{Elements: int64(rows) * int64(cols)}
	if !x.bands(&st) {
		all := x.take(0, rows*cols)
		i := FirstNonFinite(all)
		return nil, Stats{}, &NonFiniteError{Row: i / cols, Col: i % cols, Value: all[i]}
	}
	return m, st, nil
}

// bands quantises band by band, a band being the rows that share a row of
// scales. It stops and returns false at a weight that is not finite.
func (x *Scratch) bands(st *Stats) (finite bool) {
	s, m := &x.spec, &x.m
	if s.Code == Int4 && s.Rule == Ascend && s.Arith == Compat {
		all := x.take(0, m.Rows*m.Cols)
		if absMaxBits(all) >= infBits {
			return false
		}
		x.ssz(all, st)
		return true
	}
	if m.ScaleCodes != nil && x.groups.begin(s) {
		return x.microTile(st)
	}
	for r := 0; r < m.Rows; r += m.BlockRows {
		scales := m.Scales[r/m.BlockRows*m.ScaleCols():][:m.ScaleCols()]
		if m.ScaleCodes != nil {
			if !x.microRow(r, scales, st) {
				return false
			}
			continue
		}
		if m.BlockRows > 1 {
			if !x.blockBand(r, min(m.BlockRows, m.Rows-r), scales, st) {
				return false
			}
			continue
		}
		if s.Code != Int4 || s.Arith == Compat {
			if !x.plainRow(r, scales, st) {
				return false
			}
			continue
		}
		row := x.take(r*m.Cols, m.Cols)
		if absMaxBits(row) >= infBits {
			return false
		}
		switch {
		case s.FP8Scales:
			x.fp8Row(row, r, scales, st)
		default:
			x.searchRow(row, r, scales, st)
		}
	}
	return true
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
	case MX, NVFP4:
		ok = s.checkMicro()
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
	if s.Code.Bits() == 4 && s.BlockCols%2 != 0 && s.BlockCols != cols {
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
	if n := rows * x.m.RowBytes(); cap(x.into) >= n {
		x.m.Codes = x.into[:n]
	} else {
		x.codes = resize(x.codes, n)
		x.m.Codes = x.codes
	}
	x.into = nil
	x.scales = resize(x.scales, x.m.ScaleRows()*x.m.ScaleCols())
	x.group = resize(x.group, x.m.ScaleCols())
	x.row = resize(x.row, cols)
	x.m.Scales = x.scales
	if s.Rule == MX || s.Rule == NVFP4 {
		x.micro = resize(x.micro, len(x.scales))
		x.m.ScaleCodes, x.m.Global, x.m.Times = x.micro, s.Global, s.Times
	}
	return &x.m
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// plainRow quantises a row by the absmax formula.
func (x *Scratch) plainRow(r int, scales []float32, st *Stats) (finite bool) {
	m := &x.m
	out := x.row
	if m.Code != Int4 {
		out = m.Codes[r*m.Cols:][:m.Cols]
	}
	var sum runError
	for b := range scales {
		lo, hi := b*m.BlockCols, (b+1)*m.BlockCols
		scale, e, finite := x.plainSpan(out[lo:hi], x.span(r*m.Cols+lo, hi-lo))
		if !finite {
			return false
		}
		scales[b] = scale
		sum.add(e)
	}
	if m.Code == Int4 {
		x.store(r)
	}
	st.addRun(sum, sum.errSq)
	return true
}

// blockBand quantises n rows from row r on, block by block, by the absmax
// formula. Blocks at the right edge may be narrower.
func (x *Scratch) blockBand(r, n int, scales []float32, st *Stats) (finite bool) {
	m := &x.m
	for b := range scales {
		lo, hi := b*m.BlockCols, min((b+1)*m.BlockCols, m.Cols)
		width := hi - lo
		w := x.block(r, n, lo, hi)
		out := m.Codes[r*m.Cols+lo:]
		if w.rows == 0 {
			x.row = resize(x.row, n*width)
			out = x.row
		}
		scale, e, finite := x.plainSpan(out, w)
		if !finite {
			return false
		}
		scales[b] = scale
		for i := range n {
			if w.rows == 0 {
				copy(m.Codes[(r+i)*m.Cols+lo:][:width], x.row[i*width:])
			}
		}
		st.addRun(e, e.errSq)
	}
	return true
}

// plainSpan writes the codes of a run of weights and returns its scale.
func (x *Scratch) plainSpan(out []byte, w span) (scale float32, e runError, finite bool) {
	top := w.absMaxBits()
	if top >= infBits {
		return 0, runError{}, false
	}
	w.most = math.Float32frombits(top)
	k, w := x.settle(x.spec.plainScale(w.most), w)
	e = w.encode(x, out, x.spec.Code, k)
	return k.stored, e, true
}

// store packs the row buffer, int4 codes, into the matrix.
func (x *Scratch) store(r int) {
	m := &x.m
	PackNibbles(m.Codes[r*m.RowBytes():][:0], x.row[:m.Cols], m.Cols)
}

func (s *Stats) addRun(e runError, plain float64) {
	s.SumSq += e.sumSq
	s.SumErrSq += e.errSq
	s.PlainSq += plain
	s.MaxErr = max(s.MaxErr, float64(e.maxErr))
}
