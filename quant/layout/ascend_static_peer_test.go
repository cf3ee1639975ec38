package layout

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// vectors are arrays that msmodelslim computed, by name.
type vectors struct {
	t *testing.T
	f *safetensors.File
}

func (v vectors) raw(name string) []byte {
	info, ok := v.f.Tensor(name)
	require.True(v.t, ok, name)
	b := make([]byte, info.Size)
	require.NoError(v.t, v.f.ReadTensor(info, 0, b))
	return b
}

func (v vectors) floats(name string) []float32 {
	info, ok := v.f.Tensor(name)
	require.True(v.t, ok, name)
	x := make([]float32, info.Elements())
	require.NoError(v.t, DecodeFloats(x, v.raw(name), info.DType))
	return x
}

// TestStaticVectors compares with msmodelslim's own arrays: scale and zero point of
// an F32 input are equal; deq_scale is ours rounded to BF16, which it multiplies
// in; quant_bias is equal but for the layer's bias, which it divides in BF16.
func TestStaticVectors(t *testing.T) {
	f, err := safetensors.OpenFile(testkit.Shared(t, "peers/msmodelslim-vectors.safetensors"))
	require.NoError(t, err)
	defer f.Close()
	v := vectors{t, f}
	x := v.floats("act.f32.x")
	in, err := NewExactInput(slices.Min(x), slices.Max(x))
	require.NoError(t, err)
	assert.Equal(t, v.floats("act.f32.scale")[0], in.Scale)
	assert.Equal(t, v.floats("act.f32.offset")[0], float32(in.Offset))

	theirs := StaticInput{Scale: v.floats("act.bf16.scale")[0], Offset: int8(v.floats("act.bf16.offset")[0])}
	m := &numeric.Matrix{Code: numeric.Int8, Rows: 64, Cols: 256, Codes: v.raw("bf16.i8.q"), Scales: v.floats("bf16.i8.scale"), BlockRows: 1, BlockCols: 256}
	rows := theirs.Rows(m, nil)
	deq, bias, raw := v.floats("static.deq_scale"), v.floats("static.bias"), v.raw("static.quant_bias")
	var ours, mine float64
	for r, want := range deq {
		assert.Equal(t, want, numeric.RoundBF16(rows.Deq[r]), "row %d", r)
		exact := float64(m.Scales[r]) * float64(theirs.Scale)
		mine, ours = max(mine, math.Abs(float64(want)/exact-1)), max(ours, math.Abs(float64(rows.Deq[r])/exact-1))
		layer := float64(bias[r]) / float64(want) // BF16 there
		stored := float64(int32(binary.LittleEndian.Uint32(raw[4*r:])))
		assert.InDelta(t, float64(rows.Bias[r]), stored-layer, 0.5+math.Abs(layer)/256, "row %d", r)
	}
	assert.Less(t, ours, 1e-7)
	assert.Greater(t, mine, 1e-4, "what a product in BF16 costs")

	// The range that they quantize, with a scale whose reciprocal BF16 holds better.
	y := v.floats("act.bf16.x")
	better, err := NewStaticInput(slices.Min(y), slices.Max(y))
	require.NoError(t, err)
	off := func(s float32) float64 { return math.Abs(float64(s)*float64(numeric.RoundBF16(1/s)) - 1) }
	assert.LessOrEqual(t, off(better.Scale), off(theirs.Scale))
	assert.LessOrEqual(t, better.Scale, 1.02*theirs.Scale*(1+1.0/128))
}
