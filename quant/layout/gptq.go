package layout

import (
	"encoding/binary"
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// gptq is the layout of AutoGPTQ, GPTQModel and auto-round's auto_gptq
// (docs/facts/formats.md 6.2), codes of b bits:
//
//	P.qweight I32 [I·b/32,O]  P.qzeros I32 [G,O·b/32]  P.scales F16 [G,O]  P.g_idx I32 [I]
//
// Codes and zero points are one stream of bits along their dimension. Zero
// points are stored less one (v1), or as they are (gptq_v2), which only the
// declaration tells.
type gptq struct{}

func (gptq) Format() Format         { return GPTQ }
func (gptq) weightParams() []string { return []string{"qweight"} }

func (gptq) foreign() []foreignParam {
	return []foreignParam{{"absmax", "bitsandbytes, 4 bits"}, {"SCB", "bitsandbytes, 8 bits"}, {"weight_blocks", "MXFP4 of GPT-OSS"}}
}

// findColumns finds a weight whose codes are stored input by output.
func findColumns(t *tensors) (s Stored, ok bool, err error) {
	c, ok := t.get("qweight")
	if !ok || c.DType != safetensors.I32 {
		return s, false, nil
	}
	s.Module, s.Codes = t.module, c
	if s.Scale, ok = t.get("scales"); !ok || len(s.Scale.Shape) != 2 || len(c.Shape) != 2 {
		return s, true, fmt.Errorf("layout: %s %v has no scales of two dimensions (Marlin's order?): %w", c.Name, c.Shape, ErrForeign)
	}
	s.Zeros, _ = t.get("qzeros")
	if s.Zeros.Name != "" && (s.Zeros.DType != safetensors.I32 || len(s.Zeros.Shape) != 2 || s.Zeros.Shape[0] != s.Scale.Shape[0]) {
		return s, true, fmt.Errorf("layout: %s is %s %v, beside scales %v: %w", s.Zeros.Name, s.Zeros.DType, s.Zeros.Shape, s.Scale.Shape, ErrMalformed)
	}
	s.Rows = dim(s.Scale, 1)
	return s, true, nil
}

func (gptq) find(t *tensors, h Hints) (s Stored, ok bool, err error) {
	if s, ok, err = findColumns(t); !ok || err != nil {
		return s, ok, err
	}
	if dim(s.Codes, 1) != s.Rows {
		return s, false, nil // AWQ
	}
	s.Format = GPTQ
	s.Order, _ = t.get("g_idx")
	want := h.declared(t.module)
	bits := want.Bits
	if s.Zeros.Name != "" && s.Rows > 0 {
		bits = 32 * dim(s.Zeros, 1) / s.Rows
	}
	if bits == 0 && h.Cols != nil && h.Cols(t.module) > 0 {
		bits = 32 * dim(s.Codes, 0) / h.Cols(t.module)
	}
	if bits < 2 || bits > 8 {
		return s, true, fmt.Errorf("layout: %s %v: codes of %d bits: %w", s.Codes.Name, s.Codes.Shape, bits, ErrForeign)
	}
	s.Cols = 32 * dim(s.Codes, 0) / bits
	if s.Order.Name != "" && s.Order.Elements() != int64(s.Cols) {
		return s, true, fmt.Errorf("layout: %s has %d elements, %s %v has %d columns of %d bits: %w",
			s.Order.Name, s.Order.Elements(), s.Codes.Name, s.Codes.Shape, s.Cols, bits, ErrMalformed)
	}
	return s, true, s.columnGroups(bits, format.GPTQWords, want)
}

// columnGroups fills in what the scales [G, O] say.
func (s *Stored) columnGroups(bits int, packing format.Packing, want format.Weight) error {
	if s.Rows == 0 || s.Cols == 0 || dim(s.Scale, 0) == 0 {
		return fmt.Errorf("layout: %s %v with scales %v: %w", s.Codes.Name, s.Codes.Shape, s.Scale.Shape, ErrMalformed)
	}
	n := dim(s.Scale, 0)
	group := (s.Cols + n - 1) / n
	if want.Group > 0 && (s.Cols+want.Group-1)/want.Group == n {
		group = want.Group
	} else if (s.Cols+group-1)/group != n {
		return fmt.Errorf("layout: %s has %d rows, which are no groups of %d columns: %w", s.Scale.Name, n, s.Cols, ErrMalformed)
	}
	if n == 1 && want.Group == 0 {
		group = 0
	}
	s.Quant = format.Integer(bits, group).Packed(packing)
	if packing == format.GPTQWords && want.Packing == format.GPTQv2Words {
		s.Quant.Packing = format.GPTQv2Words
	}
	s.Quant.ZeroPoints = s.Zeros.Name != "" && (want.Bits == 0 || want.ZeroPoints)
	var ok bool
	if s.Quant.Scale, ok = scaleTypes[s.Scale.DType]; !ok || s.Scale.DType.Bits() < 16 {
		return fmt.Errorf("layout: %s has dtype %s, scales are F16, BF16 or F32: %w", s.Scale.Name, s.Scale.DType, ErrForeign)
	}
	if s.Zeros.Name != "" && dim(s.Zeros, 1) != (s.Rows*bits+31)/32 {
		return fmt.Errorf("layout: %s has shape %v, %d zero points of %d bits need %d words a row: %w",
			s.Zeros.Name, s.Zeros.Shape, s.Rows, bits, (s.Rows*bits+31)/32, ErrMalformed)
	}
	return nil
}

// field returns some bits, from bit at on, of a stream of little-endian words
// that are stride apart, from word first on.
func field(raw []byte, at, bits, stride, first int) uint32 {
	w, shift := at/32, at%32
	v := uint64(binary.LittleEndian.Uint32(raw[(w*stride+first)*4:])) >> shift
	if shift+bits > 32 {
		v |= uint64(binary.LittleEndian.Uint32(raw[((w+1)*stride+first)*4:])) << (32 - shift)
	}
	return uint32(v) & (1<<bits - 1)
}

func (gptq) read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (*numeric.Matrix, error) {
	bits, n := s.Quant.Bits, hi-lo
	words := dim(s.Codes, 0)
	raw, err := b.columns(r, s.Codes, words, s.Rows, lo, hi, 4)
	if err != nil {
		return nil, err
	}
	m := s.matrix(lo, hi)
	wide, half := b.room(n*s.Cols), uint32(1)<<(bits-1)
	if 32%bits == 0 { // whole words, column after column of the tensor
		per, mask := 32/bits, uint32(1)<<bits-1
		for w := range words {
			for i := range n {
				v := binary.LittleEndian.Uint32(raw[(w*n+i)*4:])
				out := wide[i*s.Cols+w*per:][:per]
				for k := range out {
					out[k] = byte(v&mask - half)
					v >>= bits
				}
			}
		}
	} else {
		for i := range n {
			for c := range s.Cols {
				wide[i*s.Cols+c] = byte(field(raw, c*bits, bits, n, i) - half)
			}
		}
	}
	m.Codes = b.asCodes(m, wide)
	return m, s.readColumnGroups(b, r, m, lo, hi, nil)
}

// readColumnGroups reads scales, zero points and order of a weight that is
// stored input by output. order places the zero points of a word (AWQ).
func (s *Stored) readColumnGroups(b *Buffer, r TensorReader, m *numeric.Matrix, lo, hi int, order []int) error {
	n, groups := hi-lo, dim(s.Scale, 0)
	size := s.Scale.DType.Bits() / 8
	raw, err := b.columns(r, s.Scale, groups, s.Rows, lo, hi, size)
	if err != nil {
		return err
	}
	turned := make([]float32, groups*n)
	if err := DecodeFloats(turned, raw, s.Scale.DType); err != nil {
		return err
	}
	m.Scales = make([]float32, groups*n)
	for g := range groups {
		for i := range n {
			m.Scales[i*groups+g] = turned[g*n+i]
		}
	}
	if s.Order.Name != "" {
		if m.Order, err = s.readOrder(r, groups); err != nil {
			return err
		}
	}
	if s.Zeros.Name == "" {
		return nil
	}
	return s.readZeros(b, r, m, lo, hi, order)
}

// readZeros reads the zero points of rows lo..hi. In a weight that is declared
// symmetric all must be the middle of the range; they stay nil then.
func (s *Stored) readZeros(b *Buffer, r TensorReader, m *numeric.Matrix, lo, hi int, order []int) error {
	n, groups, bits := hi-lo, dim(s.Scale, 0), s.Quant.Bits
	words := dim(s.Zeros, 1)
	first, last := lo*bits/32, min((hi*bits+31)/32, words)
	raw, err := b.columns(r, s.Zeros, groups, words, first, last, 4)
	if err != nil {
		return err
	}
	if s.Quant.Packing == format.GPTQWords && 32%bits == 0 {
		addOnes(raw, bits)
	}
	half := int16(1) << (bits - 1)
	m.Zeros = make([]int16, n*groups)
	width := (last - first) * 4
	for g := range groups {
		row := raw[g*width:][:width]
		for i := range n {
			at := lo + i
			if order != nil {
				at = at/8*8 + order[at%8]
			}
			z := int16(field(row, at*bits-32*first, bits, 1, 0))
			if s.Quant.Packing == format.GPTQWords && 32%bits != 0 {
				z++
			}
			if m.Zeros[i*groups+g] = z - half; z != half && !s.Quant.ZeroPoints {
				return s.unevenZero(lo+i, g, z, half)
			}
		}
	}
	if !s.Quant.ZeroPoints {
		m.Zeros = nil
	}
	return nil
}

// CheckZeros reads the zero points of a weight that is declared symmetric, which
// all must be the middle of the range.
func (s *Stored) CheckZeros(r TensorReader) error {
	if s.Zeros.Name == "" || s.Quant.ZeroPoints {
		return nil
	}
	var order []int
	if s.Format == AWQ {
		order = awqNibble
	}
	return s.readZeros(&Buffer{}, r, s.matrix(0, s.Rows), 0, s.Rows, order)
}

// unevenZero says that a weight which is declared symmetric has a zero point of
// its own: engines never look at it (docs/facts/formats.md 6.3), the tool's
// decoder does.
func (s *Stored) unevenZero(row, group int, z, half int16) error {
	hint := "engines take that, the tool's decoder what is stored"
	switch {
	case s.Quant.Packing == format.GPTQWords && z == half+1:
		hint = "zero points of version 2 (gptq_v2) in a file that is declared version 1"
	case s.Quant.Packing == format.GPTQv2Words && z == half-1:
		hint = "zero points of version 1 in a file that is declared version 2 (gptq_v2)"
	}
	return fmt.Errorf("layout: %s: the zero point of row %d, group %d is %d, the codes are declared symmetric, which is %d: %s: %w",
		s.Zeros.Name, row, group, z, half, hint, ErrMalformed)
}

// addOnes adds one to every field of words, modulo 2^32 with carries: the
// inverse of what GPTQModel does when it writes version 1.
func addOnes(raw []byte, bits int) {
	one := uint32(0xffffffff) / (1<<bits - 1)
	for i := 0; i < len(raw); i += 4 {
		binary.LittleEndian.PutUint32(raw[i:], binary.LittleEndian.Uint32(raw[i:])+one)
	}
}
