package fold

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/x448/float16"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// TestFactors: rows of the producer are divided, columns of the consumer multiplied,
// and every value is rounded once to its type.
func TestFactors(t *testing.T) {
	f := Factors{}
	site := plain(Up, 0, &glm.Tensor{Name: "up", Shape: []int64{2, 3}}, []*glm.Tensor{{Name: "down", Shape: []int64{1, 2}}})
	f.Put(&site, []float64{3, 0.7})
	assert.Equal(t, []float64{1 / 3., 1 / 0.7}, f["up"].Rows)
	assert.Equal(t, []float64{3, 0.7}, f["down"].Cols)

	bf16 := []byte{0x80, 0x3f, 0x40, 0x40} // elements 2 and 3: 1 and 3
	require.NoError(t, f["up"].Apply(bf16, safetensors.BF16, 2, "up"))
	for i, want := range []float64{1 / 3., 3 / 0.7} {
		got := math.Float32frombits(uint32(binary.LittleEndian.Uint16(bf16[2*i:])) << 16)
		assert.Equal(t, numeric.RoundBF16(float32(want)), got)
	}
	f32 := binary.LittleEndian.AppendUint32(nil, math.Float32bits(10))
	require.NoError(t, f["down"].Apply(f32, safetensors.F32, 1, "down"))
	assert.Equal(t, float32(7), math.Float32frombits(binary.LittleEndian.Uint32(f32)))
	f16 := binary.LittleEndian.AppendUint16(nil, float16.Fromfloat32(10).Bits())
	require.NoError(t, f["down"].Apply(f16, safetensors.F16, 1, "down"))
	assert.Equal(t, float32(7), float16.Frombits(binary.LittleEndian.Uint16(f16)).Float32())

	require.ErrorContains(t, f["down"].Apply(make([]byte, 8), safetensors.F32, 1, "down"), "more than its 2 elements")
	require.ErrorContains(t, f["down"].Apply(make([]byte, 1), safetensors.I8, 0, "down"), "is I8")
}
