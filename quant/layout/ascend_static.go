package layout

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Static W8A8 of ModelSlim (docs/facts/ascend.md 2.4): one scale and one zero
// point for the whole input, found by calibration. With s_x, z_x and the scale
// s of a row
//
//	P.input_scale F32 [1]  P.input_offset F32 [1]  P.deq_scale F32 [N] = s_x·s  P.quant_bias I32 [N] = b/deq − z_x·Σq
//
// W8A8_MIX has weight_scale and weight_offset beside them.

// AscendStatic is the input of static W8A8.
var AscendStatic = format.Activation{Type: format.Int, Bits: 8, Strategy: format.Tensor, When: format.Static, ZeroPoints: true}

// ascendStatic8 is its weight: scales are deq_scale/input_scale.
var ascendStatic8 = format.Weight{Type: format.Int, Bits: 8, Strategy: format.Channel, Scale: format.F32}

// Static are the tensors by which a weight with a statically quantized input
// is multiplied.
type Static struct {
	Scale, Offset, Deq, Bias safetensors.Info
	Mix                      bool // W8A8_MIX: scales of a dynamic input are stored too
}

// StaticRows are the values behind Static for some rows of a weight:
// y = (Σ x_q·q + Bias)·Deq with x_q = x/Scale + Offset rounded to int8.
type StaticRows struct {
	Scale  float32 // as stored; engines round it to BF16
	Offset int
	Deq    []float32
	Bias   []int32
}

// findStatic finds what belongs to a statically quantized input; ok is false if
// there is no deq_scale.
func (t *tensors) findStatic(rows int) (s *Static, ok bool, err error) {
	s = new(Static)
	if s.Deq, ok = t.get("deq_scale"); !ok {
		return nil, false, nil
	}
	for _, x := range []struct {
		param  string
		to     *safetensors.Info
		rows   int
		dtypes []safetensors.DType
	}{
		{"deq_scale", &s.Deq, rows, []safetensors.DType{safetensors.F32, safetensors.I64}},
		{"quant_bias", &s.Bias, rows, []safetensors.DType{safetensors.I32}},
		{"input_scale", &s.Scale, 1, []safetensors.DType{safetensors.F32, safetensors.BF16, safetensors.F16}},
		{"input_offset", &s.Offset, 1, []safetensors.DType{safetensors.F32, safetensors.BF16, safetensors.F16, safetensors.I8}},
	} {
		info, ok := t.get(x.param)
		if !ok {
			return nil, true, fmt.Errorf("layout: %s.weight has deq_scale and no %s: %w", t.module, x.param, ErrMalformed)
		}
		if info.Elements() != int64(x.rows) {
			return nil, true, fmt.Errorf("layout: %s has shape %v, %d values are needed: %w", info.Name, info.Shape, x.rows, ErrMalformed)
		}
		if !slices.Contains(x.dtypes, info.DType) {
			return nil, true, fmt.Errorf("layout: %s is %s, it must be one of %v: %w", info.Name, info.DType, x.dtypes, ErrMalformed)
		}
		*x.to = info
	}
	_, s.Mix = t.get("weight_scale")
	return s, true, nil
}

// findStaticWeight is find for weights that have no scales but deq_scale.
func (t *tensors) findStaticWeight(codes safetensors.Info) (s Stored, ok bool, err error) {
	s = Stored{Module: t.module, Format: Ascend, Codes: codes, Quant: ascendStatic8}
	if err := s.matrixShape(); err != nil {
		return s, true, err
	}
	if s.Static, ok, err = t.findStatic(s.Rows); !ok || err != nil {
		return s, ok, err
	}
	if s.Rows == 0 || s.Cols == 0 {
		return s, true, fmt.Errorf("layout: %s has shape %v: %w", codes.Name, codes.Shape, ErrMalformed)
	}
	s.Scale = s.Static.Deq
	return s, true, nil
}

// ReadStatic reads what rows lo..hi of a weight with Stored.Static are
// multiplied by.
func ReadStatic(r TensorReader, s Stored, lo, hi int) (*StaticRows, error) {
	out := &StaticRows{Deq: make([]float32, hi-lo), Bias: make([]int32, hi-lo)}
	one, err := readNumbers(r, s.Static.Scale, 0, 1)
	if err != nil {
		return nil, err
	}
	offset, err := readNumbers(r, s.Static.Offset, 0, 1)
	if err != nil {
		return nil, err
	}
	out.Scale, out.Offset = one[0], int(offset[0])
	if !(out.Scale > 0 && out.Scale <= math.MaxFloat32) {
		return nil, fmt.Errorf("layout: %s is %v, it must be a positive number: %w", s.Static.Scale.Name, out.Scale, ErrMalformed)
	}
	if float32(out.Offset) != offset[0] || out.Offset < -128 || out.Offset > 127 {
		return nil, fmt.Errorf("layout: %s is %v, engines keep it as an integer of 8 bits: %w", s.Static.Offset.Name, offset[0], ErrMalformed)
	}
	if out.Deq, err = readNumbers(r, s.Static.Deq, lo, hi-lo); err != nil {
		return nil, err
	}
	raw := make([]byte, 4*(hi-lo))
	if err := r.ReadAt(s.Static.Bias, 4*int64(lo), raw); err != nil {
		return nil, err
	}
	for i := range out.Bias {
		out.Bias[i] = int32(binary.LittleEndian.Uint32(raw[4*i:])) //nolint:gosec // the bits of an int32
	}
	return out, nil
}

// readNumbers reads n values from element lo on: floats, int8, or the bits of
// F32 in I64 (deq_scale of float16 models).
func readNumbers(r TensorReader, t safetensors.Info, lo, n int) ([]float32, error) {
	size := t.DType.Bits() / 8
	if t.DType != safetensors.I8 && t.DType != safetensors.I64 {
		return readFloats(r, t, lo, n)
	}
	raw := make([]byte, n*size)
	if err := r.ReadAt(t, int64(lo)*int64(size), raw); err != nil {
		return nil, err
	}
	out := make([]float32, n)
	for i := range out {
		if t.DType == safetensors.I8 {
			out[i] = float32(int8(raw[i])) //nolint:gosec // the bits of an int8
			continue
		}
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[8*i:]))
	}
	return out, nil
}

// readStaticWeight reads rows lo..hi of a weight without scales of its own.
func (s *Stored) readStaticWeight(b *Buffer, r TensorReader, lo, hi int) (m *numeric.Matrix, err error) {
	m = s.matrix(lo, hi)
	if m.Codes, err = b.bytes(r, s.Codes, lo, hi, s.Cols); err != nil {
		return nil, err
	}
	rows, err := ReadStatic(r, *s, lo, hi)
	if err != nil {
		return nil, err
	}
	m.Scales = rows.weightScales()
	return m, nil
}

// weightScales are the scales of the rows: the BF16 numbers that give deq_scale
// where there are such, as msmodelslim has them, else the quotient.
func (s *StaticRows) weightScales() []float32 {
	out := make([]float32, len(s.Deq))
	for i, d := range s.Deq {
		out[i] = float32(float64(d) / float64(s.Scale))
		if near := numeric.RoundBF16(out[i]); near*s.Scale == d {
			out[i] = near
		}
	}
	return out
}
