package layout

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// held is a checkpoint of a few tensors.
type held map[string]struct {
	info safetensors.Info
	data []byte
}

func (m held) put(name string, d safetensors.DType, data []byte, shape ...int64) {
	x := m[name]
	x.info, x.data = safetensors.Info{Name: name, DType: d, Shape: shape, Size: int64(len(data))}, data
	m[name] = x
}

func (m held) Info(name string) (safetensors.Info, bool) { x, ok := m[name]; return x.info, ok }

func (m held) ReadAt(t safetensors.Info, off int64, p []byte) error {
	copy(p, m[t.Name].data[off:])
	return nil
}

func floats(v ...float32) []byte { return numeric.AppendF32(nil, v) }

// staticWeight is [2, 4] with an input of scale 0.0390625 and offset −5.
func staticWeight() held {
	m := held{}
	m.put("m.weight", safetensors.I8, []byte{1, 2, 3, 127, 0xff, 0, 5, 0x81}, 2, 4)
	m.put("m.input_scale", safetensors.F32, floats(0.0390625), 1)
	m.put("m.input_offset", safetensors.F32, floats(-5), 1)
	m.put("m.deq_scale", safetensors.F32, floats(0.0390625*0.5, 0.0390625*0.25), 2)
	bias := binary.LittleEndian.AppendUint32(nil, uint32(5*133))
	m.put("m.quant_bias", safetensors.I32, binary.LittleEndian.AppendUint32(bias, math.MaxUint32-5*123+1), 2)
	return m
}

// TestStaticWeightsAreRead: scales of the weight come out of deq_scale, F32 or
// the bits of F32 in I64; W8A8_MIX has its own.
func TestStaticWeightsAreRead(t *testing.T) {
	m := staticWeight()
	s, err := Lookup(m, "m", Hints{})
	require.NoError(t, err)
	assert.Equal(t, Ascend, s.Format)
	require.NotNil(t, s.Static)
	assert.False(t, s.Static.Mix)
	w, err := Read(m, s)
	require.NoError(t, err)
	assert.Equal(t, []float32{0.5, 0.25}, w.Scales)
	rows, err := ReadStatic(m, s, 1, 2)
	require.NoError(t, err)
	assert.Equal(t, &StaticRows{Scale: 0.0390625, Offset: -5, Deq: []float32{0.0390625 * 0.25}, Bias: []int32{-5 * 123}}, rows)

	var wide []byte
	for _, f := range []float32{0.0390625 * 0.5, 0.0390625 * 0.25} {
		wide = binary.LittleEndian.AppendUint64(wide, uint64(math.Float32bits(f)))
	}
	m.put("m.deq_scale", safetensors.I64, wide, 2)
	s, err = Lookup(m, "m", Hints{})
	require.NoError(t, err)
	w, err = Read(m, s)
	require.NoError(t, err)
	assert.Equal(t, []float32{0.5, 0.25}, w.Scales)

	m = staticWeight()
	m.put("m.weight_scale", safetensors.F32, floats(0.5, 0.25), 2, 1)
	m.put("m.weight_offset", safetensors.F32, floats(0, 0), 2, 1)
	s, err = Lookup(m, "m", Hints{})
	require.NoError(t, err)
	assert.True(t, s.Static.Mix)
	w, err = Read(m, s)
	require.NoError(t, err)
	assert.Equal(t, []float32{0.5, 0.25}, w.Scales)
}

// TestStaticWeightsThatAreNone: what is missing or of another shape is said.
func TestStaticWeightsThatAreNone(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(m held)
		says   string
	}{
		"no offset":   {func(m held) { delete(m, "m.input_offset") }, "no input_offset"},
		"long scale":  {func(m held) { m.put("m.input_scale", safetensors.F32, floats(1, 2), 2) }, "m.input_scale has shape [2]"},
		"float bias":  {func(m held) { m.put("m.quant_bias", safetensors.F32, floats(1, 2), 2) }, "m.quant_bias is F32"},
		"offset 200":  {func(m held) { m.put("m.input_offset", safetensors.F32, floats(200), 1) }, "integer of 8 bits"},
		"offset 0.5":  {func(m held) { m.put("m.input_offset", safetensors.F32, floats(0.5), 1) }, "integer of 8 bits"},
		"scale 0":     {func(m held) { m.put("m.input_scale", safetensors.F32, floats(0), 1) }, "positive"},
		"scale NaN":   {func(m held) { m.put("m.input_scale", safetensors.F32, floats(float32(math.NaN())), 1) }, "positive"},
		"no rows":     {func(m held) { m.put("m.deq_scale", safetensors.F32, nil, 0) }, "2 values are needed"},
		"not a plane": {func(m held) { m.put("m.weight", safetensors.I8, make([]byte, 8), 8) }, "two dimensions"},
	} {
		t.Run(name, func(t *testing.T) {
			m := staticWeight()
			tc.change(m)
			s, err := Lookup(m, "m", Hints{})
			if err == nil {
				_, err = Read(m, s)
			}
			require.ErrorIs(t, err, ErrMalformed)
			assert.Contains(t, err.Error(), tc.says)
		})
	}
}
