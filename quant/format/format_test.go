package format_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/quant/format"
)

func TestWeightInWords(t *testing.T) {
	for name, tc := range map[string]struct {
		weight format.Weight
		want   string
	}{
		"not quantized":      {format.Weight{}, "float"},
		"FP8 channel":        {format.Float8, "fp8 channel"},
		"FP8 block":          {format.Float8Block, "fp8 block"},
		"other blocks":       {format.Weight{Type: format.Float, Bits: 8, Strategy: format.Block, BlockRows: 64, BlockCols: 32}, "fp8 block 64x32"},
		"INT8":               {format.Int8, "int8 channel"},
		"INT4 groups":        {format.Int4(64), "int4 group 64"},
		"INT4 channel":       {format.Int4(0), "int4 channel"},
		"packing is unsaid":  {format.Int4(128).Packed(format.Words), "int4 group 128"},
		"NVFP4":              {format.NVFP4, "fp4 group 16 below a tensor scale"},
		"MXFP4":              {format.MXFP4, "mxfp4 group 32"},
		"MXFP8":              {format.MXFP8, "mxfp8 group 32"},
		"AWQ with zeros":     {format.Weight{Type: format.Int, Bits: 4, Strategy: format.Group, Group: 128, ZeroPoints: true}, "int4 group 128 with zero points"},
		"one scale a tensor": {format.Weight{Type: format.Float, Bits: 8, Strategy: format.Tensor}, "fp8 tensor"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, tc.weight.String()) })
	}
}

func TestActivationInWords(t *testing.T) {
	for name, tc := range map[string]struct {
		act  format.Activation
		want string
	}{
		"none":        {format.Activation{}, "none"},
		"int8":        {format.Int8Token, "int8 per token"},
		"FP8":         {format.Float8Token, "fp8 per token"},
		"FP8 groups":  {format.Float8Group, "fp8 per token and group of 128"},
		"NVFP4":       {format.NVFP4Local, "fp4 per token and group of 16, local"},
		"MX":          {format.MXFP4Group, "mxfp4 per token and group of 32"},
		"static int8": {format.Activation{Type: format.Int, Bits: 8, Strategy: format.Tensor, When: format.Static, ZeroPoints: true}, "int8 per tensor, static with zero points"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, tc.act.String()) })
	}
}

func TestSameCodesIgnoresStorage(t *testing.T) {
	packed := format.Int4(128).Packed(format.Words).Scaled(format.BF16)
	assert.True(t, packed.SameCodes(format.Int4(128)))
	assert.NotEqual(t, packed, format.Int4(128))
	assert.False(t, packed.SameCodes(format.Int4(64)))
	assert.False(t, format.NVFP4.SameCodes(format.MXFP4))
	assert.False(t, format.Weight{}.Quantized())
}

// TestScalesCoverTheWeight: the scales' shape times what shares a scale covers
// the weight, and one row or column of scales less does not.
func TestScalesCoverTheWeight(t *testing.T) {
	kinds := []format.Weight{format.Float8, format.Float8Block, format.Int8, format.Int4(32), format.Int4(0), format.NVFP4, format.MXFP8,
		{Type: format.Float, Bits: 8, Strategy: format.Tensor}}
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SampledFrom(kinds).Draw(t, "kind")
		rows, cols := rapid.IntRange(1, 700).Draw(t, "rows"), rapid.IntRange(1, 700).Draw(t, "cols")
		r, c := w.ScaleShape(rows, cols)
		br, bc := w.Extent(rows, cols)
		assert.True(t, r*br >= rows && (r-1)*br < rows)
		assert.True(t, c*bc >= cols && (c-1)*bc < cols)
	})
	r, c := format.Weight{}.ScaleShape(3, 4)
	assert.Zero(t, r+c)
}

func TestStrategiesAreNamedAsCompressedTensorsNamesThem(t *testing.T) {
	for _, name := range []string{"tensor", "channel", "group", "block", "tensor_group", "token"} {
		s, ok := format.ParseStrategy(name)
		assert.True(t, ok)
		assert.Equal(t, name, s.String())
	}
	_, ok := format.ParseStrategy("attn_head")
	assert.False(t, ok)
	_, ok = format.ParseStrategy("")
	assert.False(t, ok)
}
