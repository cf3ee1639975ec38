package layout

import (
	"encoding/binary"
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Reading compressed-tensors 0.1 to 0.20 (docs/facts/formats.md 2, 3). Beside
// what is written here:
//
//	float-quantized tensor   P.weight F8_E4M3 [O,I]   P.weight_scale [] or [1]   (static: P.input_scale)
//	mxfp8-quantized          P.weight F8_E4M3 [O,I]   P.weight_scale U8 [O,I/32]
//	nvfp4-pack-quantized     P.weight_packed U8 [O,I/2]  P.weight_scale F8_E4M3 [O,I/16]  P.weight_global_scale F32 [1], a divisor
//	mxfp4-pack-quantized     P.weight_packed U8 [O,I/2]  P.weight_scale U8 [O,I/32]
//	pack-quantized           codes of other widths, P.weight_zero_point I32 [⌈O·b/32⌉,I/g], P.weight_g_idx I32 [I]

func (compressedTensors) find(t *tensors, h Hints) (s Stored, ok bool, err error) {
	if c, ok := t.get("weight_packed"); ok {
		s = Stored{Module: t.module, Format: CompressedTensors, Codes: c}
		if s.Scale, ok = t.get("weight_scale"); !ok {
			return s, true, fmt.Errorf("layout: %s has no weight_scale: %w", c.Name, ErrMalformed)
		}
		s.Input, _ = t.get("input_global_scale")
		if c.DType == safetensors.U8 {
			s.Global, _ = t.get("weight_global_scale")
			return s, true, s.nibbles()
		}
		return s, true, s.words(t, h)
	}
	c, ok := t.get("weight")
	if !ok || c.DType != safetensors.F8E4M3 && c.DType != safetensors.I8 {
		return s, false, nil
	}
	if s.Scale, ok = t.get("weight_scale"); !ok {
		return s, false, nil
	}
	if _, ok := t.get("weight_offset"); ok && c.DType == safetensors.I8 {
		return s, false, nil // ascend
	}
	s.Module, s.Format, s.Codes = t.module, CompressedTensors, c
	if err := s.matrixShape(); err != nil {
		return s, true, err
	}
	s.Input, _ = t.get("input_scale")
	if c.DType == safetensors.F8E4M3 {
		s.Quant = float8Of(&s, h)
		return s, true, s.checkScale()
	}
	s.Quant = format.Int8
	if w := h.declared(t.module); w.Bits == 4 || w.Strategy == format.Group && w.Group > 0 {
		s.Quant = integerOf(&s, max(w.Bits, 4), h)
	}
	if s.Zeros, ok = t.get("weight_zero_point"); ok {
		s.Quant.ZeroPoints = true
	}
	if s.Order, ok = t.get("weight_g_idx"); ok && int64(s.Cols) != s.Order.Elements() {
		return s, true, fmt.Errorf("layout: %s has %d elements, the weight %d columns: %w", s.Order.Name, s.Order.Elements(), s.Cols, ErrMalformed)
	}
	return s, true, s.checkScale()
}

// float8Of tells what shares a scale by the scales' type and shape. The size
// of blocks is what is declared, else 128: two rows of scales may stand for
// 192 rows.
func float8Of(s *Stored, h Hints) format.Weight {
	want := h.declared(s.Module)
	switch {
	case s.Scale.DType == safetensors.U8 || s.Scale.DType == safetensors.F8E8M0:
		if want.Strategy == format.Block || len(s.Scale.Shape) == 2 && dim(s.Scale, 1) != (s.Cols+31)/32 {
			break // blocks with scales that are powers of two
		}
		return format.MXFP8
	case want.Strategy == format.Block:
	case s.Scale.Elements() == 1:
		return format.Weight{Type: format.Float, Bits: 8, Strategy: format.Tensor}
	case dim(s.Scale, 0) == s.Rows && s.Scale.Elements() == int64(s.Rows):
		return format.Float8
	}
	q := format.Float8Block
	if want.Strategy == format.Block && want.BlockRows > 0 && want.BlockCols > 0 {
		q.BlockRows, q.BlockCols = want.BlockRows, want.BlockCols
	}
	return q
}

// integerOf tells the groups of a weight by its scales; a row of one scale is a
// group if it is declared one. vLLM's int4 kernels take group scales as BF16 (docs/facts/engine-vllm.md 4).
func integerOf(s *Stored, bits int, h Hints) format.Weight {
	group, want := 0, h.declared(s.Module).Group
	if n := dim(s.Scale, 1); n > 1 && want > 0 && (s.Cols+want-1)/want == n {
		group = want
	} else if n > 1 {
		group = s.Cols / n
	} else if want >= s.Cols {
		group = want
	}
	q := format.Integer(bits, group)
	if group > 0 && s.Scale.DType != safetensors.BF16 {
		q.Used = format.BF16
	}
	return q
}

// nibbles is a weight of FP4 codes, two a byte along the input: NVFP4 with a
// global scale, MXFP4 without.
func (s *Stored) nibbles() error {
	if len(s.Codes.Shape) != 2 {
		return fmt.Errorf("layout: %s has shape %v, a quantised weight has two dimensions: %w", s.Codes.Name, s.Codes.Shape, ErrMalformed)
	}
	s.Rows, s.Cols = dim(s.Codes, 0), 2*dim(s.Codes, 1)
	s.Quant = format.MXFP4
	switch s.Scale.DType {
	case safetensors.F8E4M3:
		s.Quant = format.NVFP4
		if s.Global.Name == "" {
			return fmt.Errorf("layout: %s has scales of FP8 and no scale of the whole tensor: %w", s.Codes.Name, ErrMalformed)
		}
		if s.Global.Elements() != 1 {
			return fmt.Errorf("layout: %s has shape %v, it is one number: %w", s.Global.Name, s.Global.Shape, ErrMalformed)
		}
	case safetensors.U8, safetensors.F8E8M0:
	default:
		return fmt.Errorf("layout: %s has dtype %s, FP4 weights have scales of FP8 or powers of two: %w", s.Scale.Name, s.Scale.DType, ErrForeign)
	}
	global := s.Quant.Global
	err := s.checkScale()
	s.Quant.Global = global
	return err
}

// words is a pack-quantized weight.
func (s *Stored) words(t *tensors, h Hints) error {
	c := s.Codes
	if c.DType != safetensors.I32 || len(c.Shape) != 2 {
		return fmt.Errorf("layout: %s is %s %v, packed codes are I32 with two dimensions: %w", c.Name, c.DType, c.Shape, ErrForeign)
	}
	bits := h.declared(t.module).Bits
	if bits == 0 {
		bits = 4
	}
	if bits < 2 || bits > 8 {
		return fmt.Errorf("layout: %s holds codes of %d bits, which nobody packs so: %w", c.Name, bits, ErrForeign)
	}
	per := 32 / bits
	s.Rows, s.Cols = dim(c, 0), per*dim(c, 1)
	if info, ok := t.get("weight_shape"); ok && info.Size == 16 && info.DType == safetensors.I64 {
		var b [16]byte
		if err := t.r.ReadAt(info, 0, b[:]); err != nil {
			return err
		}
		n, k := int64(binary.LittleEndian.Uint64(b[:])), int64(binary.LittleEndian.Uint64(b[8:]))
		if n != int64(s.Rows) || k <= int64(s.Cols-per) || k > int64(s.Cols) {
			return fmt.Errorf("layout: %s says [%d, %d], the packed weight is [%d, ≤%d]: %w", info.Name, n, k, s.Rows, s.Cols, ErrMalformed)
		}
		s.Cols = int(k)
	} else if h.Cols != nil {
		k := h.Cols(t.module)
		if k <= s.Cols-per || k > s.Cols {
			return fmt.Errorf("layout: %s holds %d columns at most, %d are expected: %w", c.Name, s.Cols, k, ErrMalformed)
		}
		s.Cols = k
	}
	s.Quant = integerOf(s, bits, h).Packed(format.Words)
	var ok bool
	if s.Zeros, ok = t.get("weight_zero_point"); ok {
		s.Quant.ZeroPoints = true
		_, n := s.Quant.ScaleShape(s.Rows, s.Cols)
		if want := int64((s.Rows + per - 1) / per * n); s.Zeros.DType != safetensors.I32 || s.Zeros.Elements() != want {
			return fmt.Errorf("layout: %s is %s %v, %d packed zero points are needed: %w", s.Zeros.Name, s.Zeros.DType, s.Zeros.Shape, want, ErrMalformed)
		}
	}
	if s.Order, ok = t.get("weight_g_idx"); ok && s.Order.Elements() != int64(s.Cols) {
		return fmt.Errorf("layout: %s has %d elements, the weight %d columns: %w", s.Order.Name, s.Order.Elements(), s.Cols, ErrMalformed)
	}
	return s.checkScale()
}

func (compressedTensors) read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (*numeric.Matrix, error) {
	switch {
	case s.Quant.Packing == format.Words && s.Quant.Bits != 4:
		return b.readPacked(r, s, lo, hi)
	case s.Quant.Packing == format.Nibbles:
		return b.readNibbles(r, s, lo, hi, false)
	}
	rowBytes := s.Cols
	if s.Quant.Packing == format.Words {
		rowBytes = (s.Cols + 7) / 8 * 4
	}
	raw, err := b.bytes(r, s.Codes, lo, hi, rowBytes)
	if err != nil {
		return nil, err
	}
	m := s.matrix(lo, hi)
	switch {
	case s.Quant.Packing == format.Words:
		b.codes, err = numeric.Int4FromWords(b.codes[:0], raw, s.Cols)
		m.Codes = b.codes
	case m.Code == numeric.Int4:
		if i := numeric.FirstOutsideInt4(raw); i < len(raw) {
			return nil, fmt.Errorf("layout: %s: code %d at row %d, column %d is outside of int4: %w",
				s.Codes.Name, int8(raw[i]), lo+i/s.Cols, i%s.Cols, ErrMalformed)
		}
		b.codes = numeric.PackNibbles(b.codes[:0], raw, s.Cols)
		m.Codes = b.codes
	default:
		m.Codes = raw
	}
	if err != nil {
		return nil, err
	}
	return m, s.readBeside(r, m, lo, hi)
}

// readPacked reads rows of codes that are not int4 from 32-bit words.
func (b *Buffer) readPacked(r TensorReader, s *Stored, lo, hi int) (*numeric.Matrix, error) {
	per, bits := 32/s.Quant.Bits, s.Quant.Bits
	row := (s.Cols + per - 1) / per * 4
	raw, err := b.bytes(r, s.Codes, lo, hi, row)
	if err != nil {
		return nil, err
	}
	m := s.matrix(lo, hi)
	out := b.room((hi - lo) * s.Cols)
	for i := range hi - lo {
		for c := range s.Cols {
			w := binary.LittleEndian.Uint32(raw[i*row+c/per*4:])
			out[i*s.Cols+c] = byte(int(w>>(bits*(c%per))&(1<<bits-1)) - 1<<(bits-1))
		}
	}
	m.Codes = b.asCodes(m, out)
	return m, s.readBeside(r, m, lo, hi)
}

// readBeside reads scales, zero points and order of an integer weight of
// compressed-tensors.
func (s *Stored) readBeside(r TensorReader, m *numeric.Matrix, lo, hi int) (err error) {
	if err = s.readScales(r, m, lo); err != nil {
		return err
	}
	if s.Order.Name != "" {
		if m.Order, err = s.readOrder(r, m.ScaleCols()); err != nil {
			return err
		}
	}
	if s.Zeros.Name == "" {
		return nil
	}
	n := m.ScaleCols()
	m.Zeros = make([]int16, len(m.Scales))
	if s.Quant.Packing != format.Words { // I8, one a scale
		raw := make([]byte, len(m.Zeros))
		if s.Zeros.DType != safetensors.I8 || s.Zeros.Elements() != s.Scale.Elements() {
			return fmt.Errorf("layout: %s is %s %v, int8 zero points like the scales are needed: %w", s.Zeros.Name, s.Zeros.DType, s.Zeros.Shape, ErrMalformed)
		}
		err = r.ReadAt(s.Zeros, int64(lo/m.BlockRows*n), raw)
		for i, z := range raw {
			m.Zeros[i] = int16(int8(z))
		}
		return err
	}
	// packed along the rows, offset like the codes (compressed-tensors 0.19 pack_quantized/base.py)
	per, bits := 32/s.Quant.Bits, s.Quant.Bits
	first, last := lo/per, (hi+per-1)/per
	raw := make([]byte, (last-first)*n*4)
	if err = r.ReadAt(s.Zeros, int64(first*n*4), raw); err != nil {
		return err
	}
	for i := range hi - lo {
		row := lo + i
		for g := range n {
			w := binary.LittleEndian.Uint32(raw[((row/per-first)*n+g)*4:])
			m.Zeros[i*n+g] = int16(w>>(bits*(row%per))&(1<<bits-1)) - 1<<(bits-1)
		}
	}
	return nil
}
