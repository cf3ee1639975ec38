package check

import (
	"context"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/safetensors"
)

// blocks are codes of 4 or 8 bits whose scales are a byte each: NVFP4 and MX.
type blocks struct {
	scale, codes safetensors.Info
	bytes        int64 // of codes that share a scale
	mask         byte  // the bits of a byte of codes that are not signs
	exponents    bool  // the scales are powers of two (E8M0), else E4M3
}

// blocksOf returns the block scales of a module, false where it has none or
// where its parts do not fit each other.
func blocksOf(m *module) (b blocks, ok bool) {
	b = blocks{scale: m.params["weight_scale"], codes: m.params["weight_packed"], mask: 0x77}
	switch m.form.kind {
	case nvfp4, nvfp4Local:
		b.bytes = 8
	case mxfp4:
		b.bytes, b.exponents = 16, true
	case ascendMX4:
		b.codes, b.bytes, b.exponents = m.params["weight"], 16, true
	case mxfp8:
		b.codes, b.bytes, b.exponents, b.mask = m.params["weight"], 32, true, 0x7f
	case foreign:
		if m.stored == nil {
			return b, false
		}
		b.scale, b.codes, b.exponents = m.stored.Scale, m.stored.Codes, m.stored.Scale.DType != safetensors.F8E4M3
		w := m.form.weight
		switch d := b.scale.DType; {
		case w.Type != format.Float || d != safetensors.F8E4M3 && d != safetensors.U8 && d != safetensors.F8E8M0:
			return b, false
		case w.Bits == 4:
			b.bytes = int64(w.Group) / 2
		default:
			b.bytes, b.mask = int64(w.Group), 0x7f
		}
		return b, b.bytes > 0 && b.scale.Size > 0 && b.codes.Size == b.scale.Size*b.bytes
	default:
		return b, false
	}
	return b, b.scale.Size > 0 && b.codes.Size == b.scale.Size*b.bytes
}

// blockScales judges scales of a byte: NaN, and those that make nothing of
// codes that are something. A block of zeros rightly has the least scale.
func (s *subject) blockScales(ctx context.Context, b blocks) ([]Finding, error) {
	var bad, zero tally
	var at []int64
	err := s.each(ctx, b.scale, func(p []byte, off int64) {
		for i, c := range p {
			switch nan := c == 0xff && b.exponents || c&0x7f == 0x7f && !b.exponents; {
			case nan:
				bad.note(off+int64(i), float32(c))
			case c == 0:
				at = append(at, off+int64(i))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if bad.n > 0 {
		return []Finding{found("scale-nonfinite", b.scale.Name, sprintf("NaN: %d of %d, the first at index %d", bad.n, b.scale.Elements(), bad.first))}, nil
	}
	if int64(len(at))*100 < b.scale.Size { // a block far below its row's maximum may round to nothing
		return nil, nil
	}
	buf := make([]byte, b.bytes)
	for _, i := range at {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.ckpt.ReadAt(b.codes, i*b.bytes, buf); err != nil {
			return nil, err
		}
		for _, c := range buf {
			if c&b.mask != 0 {
				zero.note(i, 0)
				break
			}
		}
	}
	if zero.n*100 < b.scale.Size {
		return nil, nil
	}
	return []Finding{found("scale-zero", b.scale.Name, sprintf("zero, or the least power of two, above codes that are not zero: %d of %d, the first at index %d",
		zero.n, b.scale.Elements(), zero.first))}, nil
}

// bitsProbe is how much of a weight is read to tell codes of 4 bits from 8.
const bitsProbe = 4096

// declaredBits reads the start of a weight that is declared as int4 in bytes: with
// one scale a row nothing but the codes tells it from int8.
func (s *subject) declaredBits(m *module, t safetensors.Info) ([]Finding, error) {
	buf := make([]byte, min(bitsProbe, t.Size))
	if err := s.ckpt.ReadAt(t, 0, buf); err != nil {
		return nil, err
	}
	wide := 0
	for _, c := range buf {
		if v := int8(c); v < -8 || v > 7 {
			wide++
		}
	}
	if 4*wide < len(buf) {
		return nil, nil // single codes out of range are code-range's
	}
	f := found("weight-encoding", m.row.Module, sprintf("the config (%s) says %s (num_bits 4), the codes are of 8 bits: %d of the first %d are outside of -8..7", m.group, m.form, wide, len(buf)))
	f.Hint = "set num_bits to what the codes are, or take the config of the same conversion"
	return []Finding{f}, nil
}

// declaredEight tells whether a weight is declared to have integer codes of 8 bits.
func (s *subject) declaredEight(m *module) bool {
	switch m.want.kind {
	case int8Channel, ascendInt8, ascendStatic, ascendMix:
		return true
	}
	if s.decl == nil || s.decl.Declaration == nil || s.ascend {
		return false
	}
	g := s.decl.Of(m.row.Module).Group
	return g != nil && g.Weights.Type == format.Int && g.Weights.Bits == 8
}
