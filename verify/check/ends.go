package check

import (
	"context"
	"math"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// ends finds, for every scale of a weight, the largest code that it is for. A
// scale that was taken from a maximum brings one code to the end of the range,
// one that was learnt or cut off does so all the more; codes that stay far below
// were not written with this scale.
type ends struct {
	m          *module
	scale      safetensors.Info
	rows, cols int64 // of stored bytes
	high, wide int64 // bytes that share a scale, down and across
	across     int64 // scales a row
	size       func(b byte) byte
	pairs      bool // a byte holds the codes of two rows
	full, near byte // the end of the range, and what counts as reaching it
	top        []byte
}

// newEnds returns nil for forms whose scales need not come from a maximum, or
// whose parts do not fit each other.
func newEnds(m *module) *ends {
	e := &ends{m: m, rows: m.o, cols: m.i, high: 1, wide: m.i}
	e.scale = m.params["weight_scale"]
	w := m.params["weight"]
	switch m.form.kind {
	case int8Channel, ascendInt8, ascendMix:
		e.size, e.full, e.near = intSize, 127, 96 // codes that are learnt move the largest of a row by some steps
	case ascendStatic:
		e.scale = m.params["deq_scale"] // times that of the input
		e.size, e.full, e.near = intSize, 127, 96
	case fp8Channel:
		e.size, e.full, e.near = floatSize, 0x7e, 0x77 // 448 and 240: the best scale for floats may lie anywhere in an octave
	case fp8Block, fp8BlockInv:
		if m.form.kind == fp8BlockInv {
			e.scale = m.params["weight_scale_inv"]
		}
		e.size, e.full, e.near, e.high, e.wide = floatSize, 0x7e, 0x77, blockSize, blockSize
	case int4Bytes:
		e.size, e.full, e.near, e.wide = intSize, 7, 6, groupWidth(m)
	case int4Packed:
		w = m.params["weight_packed"]
		e.size, e.full, e.near, e.cols, e.wide = nibbles, 7, 6, m.i/2, groupWidth(m)/2
	case ascendInt4:
		e.full, e.near, e.pairs, e.rows = 7, 6, true, m.o/2
	default:
		return nil
	}
	if e.wide <= 0 || !isFloat(e.scale.DType) {
		return nil
	}
	e.across = ceilDiv(e.cols, e.wide)
	n := ceilDiv(e.rows, e.high) * e.across
	if e.pairs {
		n *= 2
	}
	if w.Size != e.rows*e.cols || e.scale.Elements() != n {
		return nil
	}
	e.top = make([]byte, n)
	return e
}

func groupWidth(m *module) int64 {
	if m.form.group == 0 {
		return m.i
	}
	return int64(m.form.group)
}

func intSize(b byte) byte {
	if v := int(int8(b)); v < 0 {
		return byte(min(-v, 127))
	}
	return b
}

func floatSize(b byte) byte { return b & 0x7f }

// nibbles is the larger of two codes with the offset 8.
func nibbles(b byte) byte { return max(fromOffset(b&15), fromOffset(b>>4)) }

func fromOffset(c byte) byte {
	if c < 8 {
		return min(8-c, 7)
	}
	return c - 8
}

// signed is the size of a code of four bits in two's complement.
func signed(c byte) byte {
	if c > 7 {
		return min(16-c, 7)
	}
	return c
}

// add takes stored bytes; off counts from the weight's start.
func (e *ends) add(p []byte, off int64) {
	for len(p) > 0 {
		row, col := off/e.cols, off%e.cols
		n := min(e.wide-col%e.wide, e.cols-col, int64(len(p)))
		if e.pairs {
			a, b := e.top[2*row], e.top[2*row+1]
			for _, c := range p[:n] {
				a, b = max(a, signed(c&15)), max(b, signed(c>>4))
			}
			e.top[2*row], e.top[2*row+1] = a, b
		} else {
			at := row/e.high*e.across + col/e.wide
			top := e.top[at]
			for _, c := range p[:n] {
				top = max(top, e.size(c))
			}
			e.top[at] = top
		}
		p, off = p[n:], off+n
	}
}

// floors are the scales that tools give to rows of zeros: 1, and the smallest
// step of BF16 and F16 (compressed-tensors, quantization/utils/helpers.py).
var floors = []float32{1, 0x1p-7, 0x1p-10}

// floor is the largest scale that stands for no value.
const floor = 1e-5

// findings compares with the scales.
func (e *ends) findings(ctx context.Context, s *subject) ([]Finding, error) {
	input := float32(1)
	if in := e.m.params["input_scale"]; e.m.form.kind == ascendStatic && in.Elements() == 1 && isFloat(in.DType) {
		var err error
		if input, err = s.one(ctx, in); err != nil || !(input > 0) {
			return nil, err
		}
	}
	var short tally
	err := s.eachFloat(ctx, e.scale, func(i int64, v float32) {
		if input != 1 {
			v = numeric.RoundBF16(v / input)
		}
		near := e.near
		if frac, _ := math.Frexp(float64(v)); math.Abs(frac) == 0.5 { // rounded up to a power of two
			near = half(e)
		}
		zero := e.top[i] == 0
		if e.top[i] >= near || math.Abs(float64(v)) <= floor || zero && (v == floors[0] || v == floors[1] || v == floors[2]) {
			return
		}
		short.note(i, v)
	})
	if err != nil || short.n == 0 || e.full == 7 && short.n*100 < int64(len(e.top)) {
		return nil, err // methods that move codes of four bits now and then leave the end of the range free
	}
	return []Finding{found("codes-short", e.scale.Name, sprintf("%d of %d scales: no code below them comes near the end of the range, the first at index %d (%g), its largest code is %s",
		short.n, len(e.top), short.first, short.value, e.largest(short.first)))}, nil
}

// half is what counts as reaching half of the range.
func half(e *ends) byte {
	if e.full == 0x7e {
		return e.near - 8 // 120
	}
	return e.near / 2
}

func (e *ends) largest(i int64) string {
	if e.full != 0x7e {
		return sprintf("%d of %d", e.top[i], e.full)
	}
	c := e.top[i]
	v := math.Ldexp(float64(c&7), -9)
	if exp := int(c >> 3); exp > 0 {
		v = math.Ldexp(8+float64(c&7), exp-10)
	}
	return sprintf("%g of 448", v)
}
