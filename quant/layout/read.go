package layout

import (
	"errors"
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Stored says how one module's weight lies in a checkpoint, as its tensors
// show it: names, dtypes and shapes, not what a config claims.
type Stored struct {
	Module     string
	Encoding   Encoding // Float for a plain weight
	Rows, Cols int
	Group      int // int4 group size, 0 = channel
	Format     Format
	Codes      safetensors.Info // .weight or .weight_packed
	Scale      safetensors.Info // zero for Float
	Offset     safetensors.Info // weight_offset of Ascend layouts: all zeros
}

// ErrForeign is wrapped by errors about weights that are stored in a way no
// layout of this package has: asymmetric, activation-ordered, static, packed
// with other widths.
var ErrForeign = errors.New("not a layout glmconv reads")

// ErrMalformed is wrapped by errors about tensors of a weight that do not fit
// each other or hold codes outside of their range.
var ErrMalformed = errors.New("malformed quantised weight")

// foreignParams are tensors beside a weight that change what its codes mean.
var foreignParams = []struct{ name, what string }{
	{"weight_zero_point", "asymmetric codes"},
	{"weight_g_idx", "activation order"},
	{"weight_global_scale", "4-bit floating point"},
	{"weight_scale_second", "two-level group scales of old ModelSlim"},
	{"deq_scale", "static W8A8 of ModelSlim"},
}

// Hints are what the tensors alone cannot tell.
type Hints struct {
	// Bits is the number of bits of a module's integer codes, from the
	// configuration: I8 tensors of compressed-tensors hold 8-bit or 4-bit
	// values. nil and 0 mean unknown: 8 for I8, 4 for packed words.
	Bits func(module string) int
	// Cols is a module's number of input columns when it is known; a
	// pack-quantized weight without weight_shape needs it.
	Cols func(module string) int
}

// Lookup finds out how a module's weight is stored.
func Lookup(r TensorReader, module string, h Hints) (Stored, error) {
	s := Stored{Module: module}
	for _, p := range foreignParams {
		if t, ok := r.Info(module + "." + p.name); ok {
			return s, fmt.Errorf("layout: %s (%s): %w", t.Name, p.what, ErrForeign)
		}
	}
	if c, ok := r.Info(module + ".weight_packed"); ok {
		return s.packed(r, c, h)
	}
	c, ok := r.Info(module + ".weight")
	if !ok {
		return s, fmt.Errorf("layout: no weight of %s: %w", module, safetensors.ErrNotFound)
	}
	s.Codes = c
	switch c.DType {
	case safetensors.BF16, safetensors.F16, safetensors.F32:
		s.setDims(c)
		return s, nil
	}
	if len(c.Shape) != 2 {
		return s, fmt.Errorf("layout: %s has shape %v, a quantised weight has two dimensions: %w", c.Name, c.Shape, ErrMalformed)
	}
	s.setDims(c)
	inv := false
	s.Scale, ok = r.Info(module + ".weight_scale")
	if !ok {
		s.Scale, ok = r.Info(module + ".weight_scale_inv")
		inv = true
	}
	if !ok {
		return s, fmt.Errorf("layout: %s is %s and has no scale: %w", c.Name, c.DType, ErrMalformed)
	}
	s.Format = CompressedTensors
	var asc bool
	s.Offset, asc = r.Info(module + ".weight_offset")
	switch {
	case c.DType == safetensors.F8E4M3 && inv:
		s.Format, s.Encoding = HFFP8, FP8BlockEnc
	case c.DType == safetensors.F8E4M3 && dim(s.Scale, 0) == s.Rows && dim(s.Scale, 1) == 1:
		s.Encoding = FP8ChannelEnc
	case c.DType == safetensors.F8E4M3:
		s.Encoding = FP8BlockEnc
	case c.DType == safetensors.I8 && asc:
		s.Format, s.Encoding = Ascend, Int8ChannelEnc
		if _, packed := r.Info(module + ".scale_bias"); packed {
			s.Encoding, s.Rows = Int4ChannelAsc, 2*s.Rows
		}
	case c.DType == safetensors.I8 && h.Bits != nil && h.Bits(module) == 4:
		s.Encoding = Int4GroupEnc
		if n := dim(s.Scale, 1); n > 1 {
			s.Group = s.Cols / n
		}
	case c.DType == safetensors.I8:
		s.Encoding = Int8ChannelEnc
	default:
		return s, fmt.Errorf("layout: %s has dtype %s, which no layout stores codes in: %w", c.Name, c.DType, ErrForeign)
	}
	return s, s.checkScale()
}

func (s *Stored) setDims(c safetensors.Info) {
	s.Rows, s.Cols = dim(c, 0), 1
	for i := 1; i < len(c.Shape); i++ {
		s.Cols *= int(c.Shape[i])
	}
}

func (s Stored) packed(r TensorReader, c safetensors.Info, h Hints) (Stored, error) {
	s.Codes, s.Encoding, s.Format = c, Int4PackedEnc, CompressedTensors
	var ok bool
	if s.Scale, ok = r.Info(s.Module + ".weight_scale"); !ok {
		return s, fmt.Errorf("layout: %s has no weight_scale: %w", c.Name, ErrMalformed)
	}
	if c.DType != safetensors.I32 || len(c.Shape) != 2 {
		return s, fmt.Errorf("layout: %s is %s %v, packed int4 is I32 with two dimensions: %w", c.Name, c.DType, c.Shape, ErrForeign)
	}
	if h.Bits != nil {
		if b := h.Bits(s.Module); b != 0 && b != 4 {
			return s, fmt.Errorf("layout: %s holds codes of %d bits, only packed int4 is known: %w", c.Name, b, ErrForeign)
		}
	}
	s.Rows, s.Cols = dim(c, 0), 8*dim(c, 1)
	if info, ok := r.Info(s.Module + ".weight_shape"); ok && info.Size == 16 && info.DType == safetensors.I64 {
		var b [16]byte
		if err := r.ReadAt(info, 0, b[:]); err != nil {
			return s, err
		}
		n, k := int64(le64(b[:8])), int64(le64(b[8:]))
		if n != int64(s.Rows) || k <= int64(s.Cols)-8 || k > int64(s.Cols) {
			return s, fmt.Errorf("layout: %s says [%d, %d], the packed weight is [%d, ≤%d]: %w", info.Name, n, k, s.Rows, s.Cols, ErrMalformed)
		}
		s.Cols = int(k)
	} else if h.Cols != nil {
		k := h.Cols(s.Module)
		if k <= s.Cols-8 || k > s.Cols {
			return s, fmt.Errorf("layout: %s holds %d columns at most, %d are expected: %w", c.Name, s.Cols, k, ErrMalformed)
		}
		s.Cols = k
	}
	if n := dim(s.Scale, 1); n > 1 {
		s.Group = s.Cols / n
	}
	return s, s.checkScale()
}

func le64(b []byte) (v uint64) {
	for i := 7; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func dim(t safetensors.Info, i int) int {
	if i < len(t.Shape) {
		return int(t.Shape[i])
	}
	return 1
}

// checkScale compares the scale's shape with what the encoding needs.
func (s Stored) checkScale() error {
	rows, cols := s.scaleDims()
	if s.Rows == 0 || s.Cols == 0 {
		return fmt.Errorf("layout: %s has shape %v: %w", s.Codes.Name, s.Codes.Shape, ErrMalformed)
	}
	got := s.Scale.Shape
	want := []int64{int64(rows), int64(cols)}
	if !slices.Equal(got, want) && !(cols == 1 && slices.Equal(got, want[:1])) {
		return fmt.Errorf("layout: %s has shape %v, the weight [%d, %d] needs %v: %w", s.Scale.Name, got, s.Rows, s.Cols, want, ErrMalformed)
	}
	switch s.Scale.DType {
	case safetensors.BF16, safetensors.F16, safetensors.F32:
		return nil
	}
	return fmt.Errorf("layout: %s has dtype %s, scales are BF16, F16 or F32: %w", s.Scale.Name, s.Scale.DType, ErrForeign)
}

func (s Stored) blocks() (rows, cols int) {
	switch {
	case s.Encoding == FP8BlockEnc:
		return 128, 128
	case s.Group > 0:
		return 1, s.Group
	}
	return 1, s.Cols
}

func (s Stored) scaleDims() (rows, cols int) {
	br, bc := s.blocks()
	return (s.Rows + br - 1) / br, (s.Cols + bc - 1) / max(bc, 1)
}

// Code is the number format of the stored codes.
func (s Stored) Code() numeric.Code {
	switch s.Encoding {
	case FP8ChannelEnc, FP8BlockEnc:
		return numeric.E4M3
	case Int8ChannelEnc:
		return numeric.Int8
	}
	return numeric.Int4
}

// RowAlign is the number of rows that a range given to ReadRows must start at
// a multiple of.
func (s Stored) RowAlign() int {
	switch s.Encoding {
	case FP8BlockEnc:
		return 128
	case Int4ChannelAsc:
		return 2
	}
	return 1
}

// Buffer is memory that reading weights uses again. The zero value is ready; it
// is not for concurrent use.
type Buffer struct{ stored, codes []byte }

// ReadRows reads rows lo..hi of a quantised weight. lo must be a multiple of
// RowAlign, and so must hi unless it is the last row.
func ReadRows(r TensorReader, s Stored, lo, hi int) (*numeric.Matrix, error) {
	return new(Buffer).ReadRows(r, s, lo, hi)
}

// ReadRows is the function of that name; the codes of the Matrix are valid until
// the next call.
func (b *Buffer) ReadRows(r TensorReader, s Stored, lo, hi int) (*numeric.Matrix, error) {
	if s.Encoding == Float || s.Encoding == Widen {
		return nil, fmt.Errorf("layout: %s is not quantised", s.Module)
	}
	align := s.RowAlign()
	if lo < 0 || hi > s.Rows || lo > hi || lo%align != 0 || hi%align != 0 && hi != s.Rows {
		return nil, fmt.Errorf("layout: rows %d..%d of %s (%d rows in steps of %d)", lo, hi, s.Module, s.Rows, align)
	}
	br, bc := s.blocks()
	m := &numeric.Matrix{Code: s.Code(), Rows: hi - lo, Cols: s.Cols, BlockRows: br, BlockCols: bc}
	var err error
	if m.Codes, err = b.readCodes(r, s, lo, hi); err != nil {
		return nil, err
	}
	_, sc := s.scaleDims()
	if m.Scales, err = readFloats(r, s.Scale, lo/br*sc, m.ScaleRows()*sc); err != nil {
		return nil, err
	}
	return m, s.checkOffsets(r, lo, hi)
}

// checkOffsets refuses Ascend weights with an offset: their codes would mean
// something else. Runtimes drop the tensor after loading.
func (s Stored) checkOffsets(r TensorReader, lo, hi int) error {
	if s.Format != Ascend {
		return nil
	}
	if got, want := s.Offset.Elements(), int64(s.Rows); got != want {
		return fmt.Errorf("layout: %s has %d values, the weight %d rows: %w", s.Offset.Name, got, want, ErrMalformed)
	}
	v, err := readFloats(r, s.Offset, lo, hi-lo)
	if err != nil {
		return err
	}
	for i, x := range v {
		if x != 0 {
			return fmt.Errorf("layout: %s is %v at row %d, not zero: %w", s.Offset.Name, x, lo+i, ErrForeign)
		}
	}
	return nil
}

// Read reads a whole quantised weight.
func Read(r TensorReader, s Stored) (*numeric.Matrix, error) { return ReadRows(r, s, 0, s.Rows) }

// readCodes reads rows of codes and brings them into Matrix form.
func (b *Buffer) readCodes(r TensorReader, s Stored, lo, hi int) ([]byte, error) {
	rowBytes := s.Cols
	switch s.Encoding {
	case Int4PackedEnc:
		rowBytes = (s.Cols + 7) / 8 * 4
	case Int4ChannelAsc:
		lo, hi = lo/2, hi/2
	}
	if n := (hi - lo) * rowBytes; cap(b.stored) < n {
		b.stored = make([]byte, n)
	} else {
		b.stored = b.stored[:n]
	}
	raw := b.stored
	if err := r.ReadAt(s.Codes, int64(lo)*int64(rowBytes), raw); err != nil {
		return nil, err
	}
	var err error
	switch s.Encoding {
	case Int4PackedEnc:
		b.codes, err = numeric.Int4FromWords(b.codes[:0], raw, s.Cols)
	case Int4ChannelAsc:
		b.codes, err = numeric.Int4FromRowPairs(b.codes[:0], raw, s.Cols)
	case Int4GroupEnc:
		if i := numeric.FirstOutsideInt4(raw); i < len(raw) {
			return nil, fmt.Errorf("layout: %s: code %d at row %d, column %d is outside of int4: %w", s.Codes.Name, int8(raw[i]), lo+i/s.Cols, i%s.Cols, ErrMalformed)
		}
		b.codes = numeric.PackNibbles(b.codes[:0], raw, s.Cols)
	default:
		return raw, nil
	}
	return b.codes, err
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
		return numeric.Decoder{Size: 4, Decode: numeric.DecodeF32}, nil
	case safetensors.F8E4M3:
		return numeric.Decoder{Size: 1, Decode: numeric.DecodeE4M3}, nil
	default:
		return numeric.Decoder{}, fmt.Errorf("layout: dtype %s is not a floating-point weight", d)
	}
}
