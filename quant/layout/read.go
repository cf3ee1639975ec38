package layout

import (
	"errors"
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Stored says how one module's weight lies in a checkpoint, as its tensors
// show it: names, dtypes and shapes, not what a config claims.
type Stored struct {
	Module     string
	Quant      format.Weight // zero for a plain weight
	Rows, Cols int
	Format     Format
	Codes      safetensors.Info   // codes, or a plain weight's values
	Scale      safetensors.Info   // zero for a plain weight
	Beside     []safetensors.Info // what else the codes need, in the order of the layout: offsets

	// Each is zero where the weight has none.
	Global safetensors.Info // the scale of the scales (NVFP4)
	Zeros  safetensors.Info // zero points
	Order  safetensors.Info // the group of each column (activation order)
	Input  safetensors.Info // the scale of the input, or of its scales
	Static *Static          // what a statically quantized input needs (Ascend)
}

// Parts are the tensors that hold the weight: codes, scales, and what they need.
func (s *Stored) Parts() []safetensors.Info {
	parts := []safetensors.Info{s.Codes}
	for _, t := range append([]safetensors.Info{s.Scale, s.Global, s.Zeros, s.Order}, s.Beside...) {
		if t.Name != "" {
			parts = append(parts, t)
		}
	}
	return parts
}

// Quantized reports whether codes and scales are stored.
func (s *Stored) Quantized() bool { return s.Quant.Quantized() }

// TensorReader is the part of a checkpoint that readers of weights need;
// *safetensors.Checkpoint is one.
type TensorReader interface {
	Info(name string) (safetensors.Info, bool)
	ReadAt(info safetensors.Info, off int64, p []byte) error
}

// ErrForeign is wrapped by errors about weights that are stored in a way no
// reader of this package knows: Marlin's order, the formats of bitsandbytes,
// codes of widths that nobody publishes.
var ErrForeign = errors.New("not a layout glmconv reads")

// ErrMalformed is wrapped by errors about tensors of a weight that do not fit
// each other or hold codes outside of their range.
var ErrMalformed = errors.New("malformed quantised weight")

// foreignParam is a tensor beside a weight that changes what its codes mean.
type foreignParam struct{ name, what string }

// Hints are what the tensors alone cannot tell.
type Hints struct {
	// Declared is what the configuration says of a module's weight: I8 tensors
	// of compressed-tensors hold 8-bit or 4-bit values. nil and the zero value
	// mean unknown: 8 bits for I8, 4 for packed words.
	Declared func(module string) format.Weight
	// Cols is a module's number of input columns when it is known; a
	// pack-quantized weight without weight_shape needs it.
	Cols func(module string) int
}

func (h Hints) declared(module string) format.Weight {
	if h.Declared == nil {
		return format.Weight{}
	}
	return h.Declared(module)
}

// tensors are those of one module.
type tensors struct {
	r      TensorReader
	module string
}

func (t *tensors) get(param string) (safetensors.Info, bool) { return t.r.Info(t.module + "." + param) }

// Lookup finds out how a module's weight is stored: the layouts are asked in
// turn.
func Lookup(r TensorReader, module string, h Hints) (Stored, error) {
	t := &tensors{r, module}
	all := readers()
	for _, l := range all {
		for _, p := range l.foreign() {
			if info, ok := t.get(p.name); ok {
				return Stored{Module: module}, fmt.Errorf("layout: %s (%s): %w", info.Name, p.what, ErrForeign)
			}
		}
	}
	for _, l := range all {
		if s, ok, err := l.find(t, h); ok || err != nil {
			return s, err
		}
	}
	return t.plain()
}

// plain is a weight that is not quantized.
func (t *tensors) plain() (Stored, error) {
	s := Stored{Module: t.module}
	c, ok := t.get("weight")
	if !ok {
		return s, fmt.Errorf("layout: no weight of %s: %w", t.module, safetensors.ErrNotFound)
	}
	s.Codes = c
	switch c.DType {
	case safetensors.BF16, safetensors.F16, safetensors.F32:
		s.setDims()
		return s, nil
	case safetensors.F8E4M3, safetensors.I8:
		return s, fmt.Errorf("layout: %s is %s and has no scale: %w", c.Name, c.DType, ErrMalformed)
	}
	return s, fmt.Errorf("layout: %s has dtype %s, which no layout stores codes in: %w", c.Name, c.DType, ErrForeign)
}

// matrixShape takes rows and columns from codes of one element each.
func (s *Stored) matrixShape() error {
	if c := s.Codes; len(c.Shape) != 2 {
		return fmt.Errorf("layout: %s has shape %v, a quantised weight has two dimensions: %w", c.Name, c.Shape, ErrMalformed)
	}
	s.setDims()
	return nil
}

func (s *Stored) setDims() {
	c := s.Codes
	s.Rows, s.Cols = dim(c, 0), 1
	for i := 1; i < len(c.Shape); i++ {
		s.Cols *= int(c.Shape[i])
	}
}

func dim(t safetensors.Info, i int) int {
	if i < len(t.Shape) {
		return int(t.Shape[i])
	}
	return 1
}

// scaleTypes are the dtypes that scales are stored in.
var scaleTypes = map[safetensors.DType]format.Scale{safetensors.BF16: format.BF16, safetensors.F16: format.F16, safetensors.F32: format.F32,
	safetensors.F8E4M3: format.E4M3, safetensors.U8: format.E8M0, safetensors.F8E8M0: format.E8M0}

// checkScale compares the scale's shape with what the weight needs and notes
// its type.
func (s *Stored) checkScale() error {
	if s.Rows == 0 || s.Cols == 0 {
		return fmt.Errorf("layout: %s has shape %v: %w", s.Codes.Name, s.Codes.Shape, ErrMalformed)
	}
	rows, cols := s.Quant.ScaleShape(s.Rows, s.Cols)
	got := s.Scale.Shape
	want := []int64{int64(rows), int64(cols)}
	if !slices.Equal(got, want) && (len(got) == 2 || !slices.Equal(withoutOnes(got), withoutOnes(want))) {
		return fmt.Errorf("layout: %s has shape %v, the weight [%d, %d] needs %v: %w", s.Scale.Name, got, s.Rows, s.Cols, want, ErrMalformed)
	}
	var ok bool
	if s.Quant.Scale, ok = scaleTypes[s.Scale.DType]; !ok || s.Quant.Scale == format.E4M3 && s.Quant.Strategy != format.TensorGroup {
		return fmt.Errorf("layout: %s has dtype %s, scales are BF16, F16 or F32: %w", s.Scale.Name, s.Scale.DType, ErrForeign)
	}
	return nil
}

// withoutOnes are the dimensions of a shape that count: tools write the scales
// of [O, I] as [O], [O, 1] or [O/128, 1, I/128, 1].
func withoutOnes(shape []int64) (out []int64) {
	for _, d := range shape {
		if d != 1 {
			out = append(out, d)
		}
	}
	return out
}

// Code is the number format of the codes in memory.
func (s *Stored) Code() numeric.Code { return codeOf(s.Quant) }

// RowAlign is the number of rows that a range given to ReadRows must start at
// a multiple of.
func (s *Stored) RowAlign() int { return rowAlign(s.Quant) }

// Buffer is memory that reading weights uses again. The zero value is ready; it
// is not for concurrent use.
type Buffer struct{ stored, codes, wide []byte }

// ReadRows reads rows lo..hi of a quantized weight. lo must be a multiple of
// RowAlign, and so must hi unless it is the last row.
func ReadRows(r TensorReader, s Stored, lo, hi int) (*numeric.Matrix, error) {
	return new(Buffer).ReadRows(r, s, lo, hi)
}

// ReadRows is the function of that name; the codes of the Matrix are valid until
// the next call.
func (b *Buffer) ReadRows(r TensorReader, s Stored, lo, hi int) (*numeric.Matrix, error) {
	if !s.Quantized() {
		return nil, fmt.Errorf("layout: %s is not quantised", s.Module)
	}
	align := s.RowAlign()
	if lo < 0 || hi > s.Rows || lo > hi || lo%align != 0 || hi%align != 0 && hi != s.Rows {
		return nil, fmt.Errorf("layout: rows %d..%d of %s (%d rows in steps of %d)", lo, hi, s.Module, s.Rows, align)
	}
	for _, l := range readers() {
		if l.Format() == s.Format {
			return l.read(b, r, &s, lo, hi)
		}
	}
	return nil, fmt.Errorf("layout: unknown format %q", s.Format)
}

// Read reads a whole quantized weight.
func Read(r TensorReader, s Stored) (*numeric.Matrix, error) { return ReadRows(r, s, 0, s.Rows) }

// matrix is rows lo..hi without codes and scales.
func (s *Stored) matrix(lo, hi int) *numeric.Matrix {
	br, bc := s.Quant.Extent(s.Rows, s.Cols)
	return &numeric.Matrix{Code: codeOf(s.Quant), Rows: hi - lo, Cols: s.Cols, BlockRows: br, BlockCols: bc}
}

// readScales reads the scales of a matrix that begins at row lo.
func (s *Stored) readScales(r TensorReader, m *numeric.Matrix, lo int) (err error) {
	n := m.ScaleCols()
	if s.Quant.Scale == format.E8M0 {
		return s.readPowers(r, m, lo/m.BlockRows*n)
	}
	m.Scales, err = readFloats(r, s.Scale, lo/m.BlockRows*n, m.ScaleRows()*n)
	return err
}

// readPowers reads scales that are powers of two from element at on.
func (s *Stored) readPowers(r TensorReader, m *numeric.Matrix, at int) error {
	m.ScaleCodes = make([]byte, m.ScaleRows()*m.ScaleCols())
	if err := r.ReadAt(s.Scale, int64(at), m.ScaleCodes); err != nil {
		return err
	}
	m.Scales = make([]float32, len(m.ScaleCodes))
	for i, c := range m.ScaleCodes {
		if c == 255 {
			return fmt.Errorf("layout: %s: element %d is 255, which is NaN: %w", s.Scale.Name, at+i, ErrMalformed)
		}
		m.Scales[i] = numeric.E8M0ToF32(c)
	}
	return nil
}

// bytes reads rows lo..hi of a tensor with rows of the given size, valid until
// the next call.
func (b *Buffer) bytes(r TensorReader, t safetensors.Info, lo, hi, rowBytes int) ([]byte, error) {
	if n := (hi - lo) * rowBytes; cap(b.stored) < n {
		b.stored = make([]byte, n)
	} else {
		b.stored = b.stored[:n]
	}
	return b.stored, r.ReadAt(t, int64(lo)*int64(rowBytes), b.stored)
}

// readFloats reads n values of a floating-point tensor from element lo on.
func readFloats(r TensorReader, t safetensors.Info, lo, n int) ([]float32, error) {
	size := t.DType.Bits() / 8
	if size == 0 {
		return nil, fmt.Errorf("layout: %s has dtype %s, floating point is expected: %w", t.Name, t.DType, ErrForeign)
	}
	raw := make([]byte, n*size)
	if err := r.ReadAt(t, int64(lo)*int64(size), raw); err != nil {
		return nil, err
	}
	out := make([]float32, n)
	return out, DecodeFloats(out, raw, t.DType)
}

// DecodeFloats widens floating-point data of a BF16, F16, F32 or F8_E4M3
// tensor.
func DecodeFloats(dst []float32, src []byte, d safetensors.DType) error {
	dec, err := DecoderOf(d)
	if err == nil {
		dec.Decode(dst, src)
	}
	return err
}

// DecoderOf returns what widens data of a floating-point dtype.
func DecoderOf(d safetensors.DType) (numeric.Decoder, error) {
	switch d {
	case safetensors.BF16:
		return numeric.Decoder{Size: 2, Decode: numeric.DecodeBF16, BF16: true}, nil
	case safetensors.F16:
		return numeric.Decoder{Size: 2, Decode: numeric.DecodeF16}, nil
	case safetensors.F32:
		return numeric.Decoder{Size: 4, Decode: numeric.DecodeF32, F32: true}, nil
	case safetensors.F8E4M3:
		return numeric.Decoder{Size: 1, Decode: numeric.DecodeE4M3}, nil
	default:
		return numeric.Decoder{}, fmt.Errorf("layout: dtype %s is not a floating-point weight", d)
	}
}
