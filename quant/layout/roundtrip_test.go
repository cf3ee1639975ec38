package layout

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// memory is a checkpoint in memory.
type memory map[string]struct {
	info safetensors.Info
	data []byte
}

func (m memory) Info(name string) (safetensors.Info, bool) { t, ok := m[name]; return t.info, ok }

func (m memory) ReadAt(info safetensors.Info, off int64, p []byte) error {
	d := m[info.Name].data
	if off < 0 || off+int64(len(p)) > int64(len(d)) {
		return fmt.Errorf("%s: %d bytes at %d of %d", info.Name, len(p), off, len(d))
	}
	copy(p, d[off:])
	return nil
}

// write converts x in tiles and returns the checkpoint.
func write(t require.TestingT, l Layout, w Weight, a Arith, x []float32, tile int) (memory, *numeric.Matrix) {
	n, k := w.Dims()
	if w.Quant.Strategy == format.TensorGroup {
		var g numeric.SampleGlobal
		require.NoError(t, g.Add(x, k))
		w.Global, w.InputMax = g.ScaleOf(l.Numeric(w, a)), 3
	}
	outs := l.Outputs(w)
	data := make([][]byte, len(outs))
	if align := l.RowAlign(w, a); align == 0 {
		tile = n
	} else {
		tile = (tile + align - 1) / align * align
	}
	for r := 0; r < n; r += tile {
		end := min(r+tile, n)
		m, _, err := numeric.Quantize(l.Numeric(w, a), x[r*k:end*k], end-r, k, nil)
		require.NoError(t, err)
		data, err = l.AppendTile(w, r, m, data)
		require.NoError(t, err)
	}
	ckpt := memory{}
	for i, o := range outs {
		require.Equal(t, o.Bytes(), int64(len(data[i])), "%s", o.Name)
		ckpt[o.Name] = struct {
			info safetensors.Info
			data []byte
		}{safetensors.Info{Name: o.Name, DType: o.DType, Shape: o.Shape, Size: o.Bytes()}, data[i]}
	}
	whole, _, err := numeric.Quantize(l.Numeric(w, a), x, n, k, nil)
	require.NoError(t, err)
	return ckpt, whole
}

func TestRoundTrip(t *testing.T) {
	bf16 := func(q format.Weight) format.Weight { return q.Scaled(format.BF16) }
	cases := []struct {
		f Format
		q format.Weight
	}{{CompressedTensors, bf16(format.Float8)}, {CompressedTensors, bf16(format.Float8Block)}, {CompressedTensors, bf16(format.Int8)},
		{CompressedTensors, format.NVFP4}, {CompressedTensors, format.MXFP4}, {CompressedTensors, format.MXFP8}, {CompressedTensors, bf16(format.Integer(8, 32)).Packed(format.Words)},
		{CompressedTensors, bf16(format.Int4(0))}, {CompressedTensors, bf16(format.Int4(32))},
		{CompressedTensors, bf16(format.Int4(0)).Packed(format.Words)}, {CompressedTensors, bf16(format.Int4(32)).Packed(format.Words)},
		{HFFP8, format.Float8Block.Scaled(format.F32)}, {ModelOpt, format.NVFP4}, {Ascend, ascendInt8}, {Ascend, ascendInt4},
		{Ascend, format.MXFP4}, {Ascend, format.MXFP8}}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s %s, %s", c.f, c.q, c.q.Packing), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n, k := 2*rapid.IntRange(1, 100).Draw(t, "rows/2"), 16*rapid.IntRange(1, 20).Draw(t, "cols/16")
				if c.q.Group == 32 {
					k *= 2
				}
				w := Weight{Tensor: &glm.Tensor{Name: "m.weight", Module: "m", Param: "weight", Role: glm.ExpertDown, Shape: []int64{int64(n), int64(k)}}, Quant: c.q}
				x := make([]float32, n*k)
				seed := rapid.Uint32().Draw(t, "seed")
				for i := range x {
					seed = seed*1664525 + 1013904223
					x[i] = numeric.RoundBF16(float32(int32(seed)) / (1 << 31))
				}
				l, err := For(c.f)
				require.NoError(t, err)
				a := Arith(rapid.IntRange(0, 1).Draw(t, "arith"))
				ckpt, want := write(t, l, w, a, x, rapid.IntRange(1, 150).Draw(t, "tile"))
				s, err := Lookup(ckpt, "m", Hints{Declared: func(string) format.Weight { return c.q }})
				require.NoError(t, err)
				assert.Equal(t, c.q, s.Quant)
				got, err := Read(ckpt, s)
				require.NoError(t, err)
				require.Equal(t, want.Codes, got.Codes)
				require.Equal(t, want.Scales, got.Scales)
				lo := rapid.IntRange(0, n-1).Draw(t, "lo") / s.RowAlign() * s.RowAlign()
				part, err := ReadRows(ckpt, s, lo, n)
				require.NoError(t, err)
				a1, b1 := make([]float32, (n-lo)*k), make([]float32, (n-lo)*k)
				got.Dequant(a1, lo, n)
				part.Dequant(b1, 0, n-lo)
				require.Equal(t, a1, b1)
			})
		})
	}
}

func TestLookupRefusesNonsense(t *testing.T) {
	at := func(d safetensors.DType, shape ...int64) struct {
		info safetensors.Info
		data []byte
	} {
		s := safetensors.Spec{DType: d, Shape: shape}
		return struct {
			info safetensors.Info
			data []byte
		}{safetensors.Info{DType: d, Shape: shape, Size: s.Bytes()}, make([]byte, s.Bytes())}
	}
	for name, c := range map[string]memory{
		"no weight":    {},
		"no scale":     {"m.weight": at(safetensors.I8, 4, 8)},
		"scale shape":  {"m.weight": at(safetensors.I8, 4, 8), "m.weight_scale": at(safetensors.BF16, 3, 1)},
		"scale dtype":  {"m.weight": at(safetensors.I8, 4, 8), "m.weight_scale": at(safetensors.I32, 4, 1)},
		"code dtype":   {"m.weight": at(safetensors.I32, 4, 8), "m.weight_scale": at(safetensors.BF16, 4, 1)},
		"packed dtype": {"m.weight_packed": at(safetensors.I8, 4, 8), "m.weight_scale": at(safetensors.BF16, 4, 1)},
		"packed shape": {"m.weight_packed": at(safetensors.I32, 4, 1), "m.weight_scale": at(safetensors.BF16, 4, 1), "m.weight_shape": at(safetensors.I64, 2)},
		"vector codes": {"m.weight": at(safetensors.I8, 4), "m.weight_scale": at(safetensors.BF16, 4, 1)},
	} {
		_, err := Lookup(c, "m", Hints{})
		assert.Error(t, err, name)
	}
}

func TestJSONEditKeepsEverythingElse(t *testing.T) {
	src := "{\n  \"b\": 1.50,\n  \"quantization_config\": {\"x\": [1, 2]},\n  \"text_config\": {\"a\": 1, \"quantization_config\": 3},\n  \"z\": \"ä<\"\n}\n"
	out, err := stripQuantization([]byte(src))
	require.NoError(t, err)
	assert.Equal(t, "{\n  \"b\": 1.50,\n  \"text_config\": {\"a\": 1},\n  \"z\": \"ä<\"\n}\n", string(out))
	out, err = setKey(out, "quantization_config", []byte("{\n  \"k\": 1\n}\n"))
	require.NoError(t, err)
	assert.Equal(t, "{\n  \"b\": 1.50,\n  \"text_config\": {\"a\": 1},\n  \"z\": \"ä<\",\n  \"quantization_config\": {\n    \"k\": 1\n  }\n}\n", string(out))
	out, err = setKey([]byte("{}"), "k", []byte("1"))
	require.NoError(t, err)
	assert.Equal(t, "{\n  \"k\": 1\n}", string(out))
	_, err = removeKey([]byte("[1]"), "k")
	assert.Error(t, err)
}

func TestTable(t *testing.T) {
	assert.Equal(t, Ascend, DefaultFormat(W8A8, &glm.Config{Family: glm.GlmMoeDsa}))
	assert.Equal(t, CompressedTensors, DefaultFormat(W8A8, &glm.Config{Family: glm.Glm4Moe}))
	assert.Equal(t, HFFP8, DefaultFormat(FP8Block, &glm.Config{Family: glm.Glm4Moe}))
	possible := 0
	for _, s := range Schemes {
		for _, f := range Formats {
			if err := Supported(s, f); err == nil {
				possible++
			} else {
				var e *ImpossibleError
				require.ErrorAs(t, err, &e)
				assert.NotEmpty(t, e.Hint())
			}
		}
	}
	assert.Equal(t, 21, possible)
}
