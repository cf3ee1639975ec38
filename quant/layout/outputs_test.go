package layout

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

func weight(role glm.Role, q format.Weight, shape ...int64) Weight {
	return Weight{Tensor: &glm.Tensor{Name: "m.weight", Module: "m", Param: "weight", Role: role, Shape: shape}, Source: safetensors.BF16, Quant: q, DType: safetensors.BF16}
}

func TestOutputs(t *testing.T) {
	type specs = []safetensors.Spec
	out := func(param string, d safetensors.DType, shape ...int64) safetensors.Spec {
		return safetensors.Spec{Name: "m." + param, DType: d, Shape: shape}
	}
	f8, i8, i32, i64, bf16, f32 := safetensors.F8E4M3, safetensors.I8, safetensors.I32, safetensors.I64, safetensors.BF16, safetensors.F32
	widened := weight(glm.AttnQ, format.Weight{}, 96)
	widened.DType = safetensors.F32
	for _, c := range []struct {
		f    Format
		w    Weight
		want specs
	}{
		{CompressedTensors, weight(glm.AttnO, format.Float8, 576, 6144), specs{out("weight", f8, 576, 6144), out("weight_scale", bf16, 576, 1)}},
		{CompressedTensors, weight(glm.AttnKVA, format.Float8Block, 576, 6144), specs{out("weight", f8, 576, 6144), out("weight_scale", bf16, 5, 48)}},
		{CompressedTensors, weight(glm.AttnO, format.Int8, 10, 20), specs{out("weight", i8, 10, 20), out("weight_scale", bf16, 10, 1)}},
		{CompressedTensors, weight(glm.AttnO, format.Int4(64), 10, 192), specs{out("weight", i8, 10, 192), out("weight_scale", bf16, 10, 3)}},
		{CompressedTensors, weight(glm.AttnO, format.Int4(128).Packed(format.Words), 64, 1408), specs{out("weight_packed", i32, 64, 176), out("weight_scale", bf16, 64, 11), out("weight_shape", i64, 2)}},
		{HFFP8, weight(glm.AttnKVA, format.Float8Block, 576, 6144), specs{out("weight", f8, 576, 6144), out("weight_scale_inv", f32, 5, 48)}},
		{Ascend, weight(glm.AttnO, ascendInt8, 10, 20), specs{out("weight", i8, 10, 20), out("weight_scale", f32, 10, 1), out("weight_offset", f32, 10, 1)}},
		{Ascend, weight(glm.ExpertUp, ascendInt4, 2048, 6144), specs{out("weight", i8, 1024, 6144), out("weight_scale", f32, 2048, 1), out("weight_offset", f32, 2048, 1), out("scale_bias", f32, 2048, 1)}},
		{Ascend, weight(glm.ExpertDown, ascendInt4, 6144, 2048), specs{out("weight", i8, 3072, 2048), out("weight_scale", f32, 6144, 1), out("weight_offset", f32, 6144, 1), out("scale_bias", f32, 6144, 16)}},
		{Ascend, widened, specs{out("weight", f32, 96)}},
		{HFFP8, weight(glm.Router, format.Weight{}, 8, 16), specs{out("weight", bf16, 8, 16)}},
	} {
		l, err := For(c.f)
		require.NoError(t, err)
		assert.Equal(t, c.f, l.Format())
		assert.Equal(t, c.want, l.Outputs(c.w), "%s %s", c.f, c.w.Quant)
	}
	_, err := For("gguf")
	assert.ErrorContains(t, err, "gguf")
}

// The arithmetic each layout asks for: signs and FP8 scales only where the
// engines take them.
func TestNumeric(t *testing.T) {
	ct := compressedTensors{}
	assert.True(t, ct.Numeric(weight(glm.ExpertUp, format.Int4(128).Packed(format.Words), 64, 256), numeric.Best).Signed)
	assert.False(t, ct.Numeric(weight(glm.ExpertUp, format.Int4(128), 64, 256), numeric.Best).Signed)
	mixed := weight(glm.ExpertUp, format.Int4(128).Packed(format.Words), 64, 256)
	mixed.Quant.Used = format.E4M3
	s := ct.Numeric(mixed, numeric.Best)
	assert.False(t, s.Signed)
	assert.True(t, s.FP8Scales)
	assert.Equal(t, 128, hfFP8{}.RowAlign(weight(glm.AttnO, format.Float8Block, 256, 256), numeric.Best))
	asc := weight(glm.ExpertUp, ascendInt4, 64, 256)
	assert.Equal(t, 2, ascend{}.RowAlign(asc, numeric.Best))
	assert.Equal(t, 0, ascend{}.RowAlign(asc, numeric.Compat), "the reference's stopping rule sees all rows")
}
