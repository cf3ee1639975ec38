package layout

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// declaredBy returns the hints of a checkpoint's own declaration.
func declaredBy(t *testing.T, cfg *glm.Config) Hints {
	d, err := declaration.Config(cfg.QuantizationConfig)
	require.NoError(t, err)
	return Hints{Declared: func(m string) format.Weight { return d.Of(m).Weights() }, Cols: func(m string) int {
		if row := cfg.Lookup(m + ".weight"); row != nil && len(row.Shape) == 2 {
			return int(row.Shape[1])
		}
		return 0
	}}
}

// TestPublishedWeightsDecode: the weights of other tools' checkpoints stand for
// the numbers that those tools' own decoders give, to the bit, read at once and
// in pieces.
func TestPublishedWeightsDecode(t *testing.T) {
	cases := map[string]Format{"sources/nano-glm5-fp8": HFFP8, "sources/nano-glm4moe-fp8": CompressedTensors,
		"foreign/modelopt-nvfp4": ModelOpt, "foreign/modelopt-fp8": CompressedTensors, "foreign/quark-mxfp4": Quark,
		"foreign/autoround-gptq": GPTQ, "foreign/autoround-mxfp4": CompressedTensors, "foreign/gptq-asym": GPTQ, "foreign/gptq-int4-int8": GPTQ,
		"foreign/awq": AWQ}
	for name, f := range cases {
		t.Run(filepath.Base(name), func(t *testing.T) {
			ckpt, cfg := openDir(t, "reference/"+name)
			raw, err := os.ReadFile(testkit.Shared(t, "reference/"+name+".expected.json"))
			require.NoError(t, err)
			var want struct {
				Dequantized map[string]struct{ Float32, BFloat16 string }
			}
			require.NoError(t, json.Unmarshal(raw, &want))
			require.NotEmpty(t, want.Dequantized)
			h := declaredBy(t, cfg)
			rng := rand.New(rand.NewPCG(1, 2))
			for module, w := range want.Dequantized {
				s, err := Lookup(ckpt, module, h)
				require.NoError(t, err)
				assert.Equal(t, f, s.Format, module)
				m, err := Read(ckpt, s)
				require.NoError(t, err)
				v := make([]float32, s.Rows*s.Cols)
				m.Dequant(v, 0, s.Rows)
				require.Equal(t, w.Float32, sum(numeric.AppendF32(nil, v)), module)
				if w.BFloat16 != "" {
					assert.Equal(t, w.BFloat16, sum(numeric.AppendBF16(nil, v)), module)
				}
				var b Buffer
				pieces := []float32{}
				for lo := 0; lo < s.Rows; {
					align := s.RowAlign()
					hi := min(s.Rows, lo+align*(1+rng.IntN(1+s.Rows/align)))
					m, err := b.ReadRows(ckpt, s, lo, hi)
					require.NoError(t, err)
					part := make([]float32, (hi-lo)*s.Cols)
					m.Dequant(part, 0, hi-lo)
					pieces, lo = append(pieces, part...), hi
				}
				assert.Equal(t, sum(numeric.AppendF32(nil, v)), sum(numeric.AppendF32(nil, pieces)), "%s in pieces", module)
			}
		})
	}
}

// TestCompressedNVFP4Decodes: llm-compressor's NVFP4 as it lies on disk.
func TestCompressedNVFP4Decodes(t *testing.T) {
	ckpt, cfg := openDir(t, "reference/nano-glm4moe-quantized/NVFP4A16")
	raw, err := os.ReadFile(testkit.Shared(t, "reference/golden/nano-glm4moe/quantized_tensors_fp4.json"))
	require.NoError(t, err)
	var golden map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &golden))
	var want goldenFP4
	require.NoError(t, json.Unmarshal(golden["NVFP4A16"], &want))
	h := declaredBy(t, cfg)
	for module, hash := range want.Dequantized {
		s, err := Lookup(ckpt, module, h)
		require.NoError(t, err)
		m, err := Read(ckpt, s)
		require.NoError(t, err)
		v := make([]float32, s.Rows*s.Cols)
		m.Dequant(v, 0, s.Rows)
		require.Equal(t, hash, sum(numeric.AppendF32(nil, v)), module)
	}
}

// put adds a tensor.
func (m memory) put(name string, d safetensors.DType, data []byte, shape ...int64) {
	m[name] = struct {
		info safetensors.Info
		data []byte
	}{safetensors.Info{Name: name, DType: d, Shape: shape, Size: int64(len(data))}, data}
}

// TestBlocksAreNotInferred: 192 rows with two rows of scales are blocks of 128
// and 64; declared blocks of 64 need three.
func TestBlocksAreNotInferred(t *testing.T) {
	ckpt := memory{}
	ckpt.put("m.weight", safetensors.F8E4M3, make([]byte, 192*256), 192, 256)
	for i := range ckpt["m.weight"].data {
		ckpt["m.weight"].data[i] = 0x38 // 1
	}
	ckpt.put("m.weight_scale_inv", safetensors.F32, numeric.AppendF32(nil, []float32{1, 2, 3, 4}), 2, 2)
	s, err := Lookup(ckpt, "m", Hints{})
	require.NoError(t, err)
	m, err := Read(ckpt, s)
	require.NoError(t, err)
	assert.Equal(t, []float32{1, 1, 3, 3}, []float32{m.Scale(96, 0), m.Scale(127, 0), m.Scale(128, 0), m.Scale(191, 0)})
	_, err = Lookup(ckpt, "m", Hints{Declared: func(string) format.Weight {
		return format.Weight{Type: format.Float, Bits: 8, Strategy: format.Block, BlockRows: 64, BlockCols: 128}
	}})
	require.ErrorIs(t, err, ErrMalformed)
}

// TestUnknownFormatsAreRefused: what nobody here reads has an error that names
// the tensor.
func TestUnknownFormatsAreRefused(t *testing.T) {
	f32 := numeric.AppendF32(nil, make([]float32, 64))
	for name, tc := range map[string]struct {
		build func(m memory)
		want  error
	}{
		"Marlin": {func(m memory) {
			m.put("m.qweight", safetensors.I32, make([]byte, 4*4*32), 4, 32)
			m.put("m.s", safetensors.F32, f32, 4, 16)
		}, ErrForeign},
		"bitsandbytes": {func(m memory) {
			m.put("m.weight", safetensors.U8, make([]byte, 64), 64, 1)
			m.put("m.absmax", safetensors.F32, f32, 64)
		}, ErrForeign},
		"AWQ of ModelOpt": {func(m memory) {
			m.put("m.weight", safetensors.U8, make([]byte, 64), 4, 16)
			m.put("m.pre_quant_scale", safetensors.F32, f32, 32)
		}, ErrForeign},
		"6 bits of Quark": {func(m memory) {
			m.put("m.weight", safetensors.U8, make([]byte, 96), 4, 24)
			m.put("m.weight_scale", safetensors.U8, make([]byte, 4), 4, 1)
		}, ErrForeign},
		"no global scale": {func(m memory) {
			m.put("m.weight_packed", safetensors.U8, make([]byte, 64), 4, 16)
			m.put("m.weight_scale", safetensors.F8E4M3, make([]byte, 8), 4, 2)
		}, ErrMalformed},
		"scales too few": {func(m memory) {
			m.put("m.weight_packed", safetensors.U8, make([]byte, 64), 4, 16)
			m.put("m.weight_scale", safetensors.U8, make([]byte, 3), 3, 1)
		}, ErrMalformed},
		"zero points of other groups": {func(m memory) {
			m.put("m.qweight", safetensors.I32, make([]byte, 256), 8, 8)
			m.put("m.scales", safetensors.F32, f32, 8, 8)
			m.put("m.qzeros", safetensors.I32, make([]byte, 16), 4, 1)
		}, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			m := memory{}
			tc.build(m)
			_, err := Lookup(m, "m", Hints{})
			require.ErrorIs(t, err, tc.want)
		})
	}
	t.Run("a scale that is not a number", func(t *testing.T) {
		m := memory{}
		m.put("m.weight_packed", safetensors.U8, make([]byte, 64), 4, 16)
		m.put("m.weight_scale", safetensors.U8, []byte{1, 255, 3, 4}, 4, 1)
		s, err := Lookup(m, "m", Hints{})
		require.NoError(t, err)
		_, err = Read(m, s)
		require.ErrorIs(t, err, ErrMalformed)
	})
}

// FuzzLookup: tensors of any names, types and shapes are a weight or an error,
// and reading one never panics.
func FuzzLookup(f *testing.F) {
	names := []string{"weight", "weight_packed", "qweight", "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale", "qzeros", "scales",
		"g_idx", "weight_g_idx", "weight_zero_point", "weight_offset", "weight_shape", "input_scale", "scale_bias"}
	types := []safetensors.DType{safetensors.I32, safetensors.U8, safetensors.I8, safetensors.F8E4M3, safetensors.F8E8M0, safetensors.F32, safetensors.F16,
		safetensors.BF16, safetensors.I64}
	f.Add([]byte{2, 0, 2, 4, 16, 7, 0, 2, 2, 2, 8, 5, 2, 2, 16}, uint8(4), uint8(16))
	f.Add([]byte{1, 1, 2, 4, 16, 3, 3, 2, 4, 2, 6, 5, 1, 1, 1}, uint8(4), uint8(16))
	f.Fuzz(func(t *testing.T, script []byte, bits, group uint8) {
		m := memory{}
		for len(script) >= 5 {
			d, shape, n := types[int(script[1])%len(types)], []int64{}, int64(1)
			for _, v := range script[3 : 3+int(script[2])%3] {
				shape, n = append(shape, int64(v)), n*int64(v)
			}
			data := make([]byte, n*int64(d.Bits()/8))
			for i := range data {
				data[i] = script[i%len(script)] ^ byte(i)
			}
			m.put("m."+names[int(script[0])%len(names)], d, data, shape...)
			script = script[5:]
		}
		h := Hints{}
		if bits > 0 {
			h.Declared = func(string) format.Weight {
				w := format.Integer(int(bits)%10, int(group))
				w.ZeroPoints = bits > 100
				return w
			}
		}
		s, err := Lookup(m, "m", h)
		if err != nil || !s.Quantized() {
			return
		}
		if s.Rows > 1<<12 || s.Cols > 1<<12 {
			return
		}
		w, err := Read(m, s)
		if err != nil {
			return
		}
		v := make([]float32, s.Rows*s.Cols)
		w.Dequant(v, 0, s.Rows)
		if s.Quant.String() == "" {
			t.Fatal(fmt.Sprint(s))
		}
	})
}
