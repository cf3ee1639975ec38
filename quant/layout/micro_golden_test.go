package layout

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// goldenFP4 is what llm-compressor wrote of a reference model.
type goldenFP4 struct {
	Tensors     map[string]struct{ SHA256 string }
	Dequantized map[string]string
}

func readWeight(t *testing.T, c *safetensors.Checkpoint, name string) (w []float32, rows, cols int) {
	info, ok := c.Info(name)
	require.True(t, ok, name)
	raw := make([]byte, info.Size)
	require.NoError(t, c.ReadAt(info, 0, raw))
	w = make([]float32, info.Elements())
	require.NoError(t, DecodeFloats(w, raw, info.DType))
	return w, int(info.Shape[0]), int(info.Shape[1])
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// sharesGlobal names the set of weights that llm-compressor 0.14 gives one
// global scale of NVFP4: attention and dense MLPs, experts one by one.
func sharesGlobal(t *glm.Tensor) string {
	if t.Role.IsExpert() || t.Role.IsShared() || t.Group == "" {
		return t.Module
	}
	return t.Group
}

// TestMicroscalingIsLLMCompressors: codes, scales and the numbers that they
// stand for are those of llm-compressor, bit by bit; the search of Best has the
// smaller error on every FP4 weight.
func TestMicroscalingIsLLMCompressors(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "tiny-glm4moe"} {
		raw, err := os.ReadFile(testkit.Shared(t, "reference/golden/"+model+"/quantized_tensors_fp4.json"))
		require.NoError(t, err)
		var golden map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &golden))
		ckpt, cfg := openDir(t, "reference/"+model)
		for name, spec := range map[string]numeric.Spec{
			"NVFP4A16": {Code: numeric.E2M1, Rule: numeric.NVFP4, BlockCols: 16},
			"MXFP4A16": {Code: numeric.E2M1, Rule: numeric.MX, BlockCols: 32},
			"MXFP8A16": {Code: numeric.E4M3, Rule: numeric.MX, BlockCols: 32},
		} {
			t.Run(model+"/"+name, func(t *testing.T) {
				var want goldenFP4
				require.NoError(t, json.Unmarshal(golden[name], &want))
				globals := map[string]*numeric.SampleGlobal{}
				rows := cfg.Table()
				each := func(do func(row *glm.Tensor, w []float32, n, k int)) {
					for i := range rows {
						if _, ok := want.Dequantized[rows[i].Module]; ok && rows[i].Param == "weight" {
							w, n, k := readWeight(t, ckpt, rows[i].Name)
							do(&rows[i], w, n, k)
						}
					}
				}
				each(func(row *glm.Tensor, w []float32, _, k int) {
					g := globals[sharesGlobal(row)]
					if g == nil {
						g = new(numeric.SampleGlobal)
						globals[sharesGlobal(row)] = g
					}
					require.NoError(t, g.Add(w, k))
				})
				seen := 0
				each(func(row *glm.Tensor, w []float32, n, k int) {
					seen++
					s := spec
					s.Arith = numeric.Compat
					s.Global = globals[sharesGlobal(row)].Scale(numeric.Compat, false)
					m, plain, err := numeric.Quantize(s, w, n, k, nil)
					require.NoError(t, err)
					param := "weight"
					if s.Code == numeric.E2M1 {
						param = "weight_packed"
					}
					assert.Equal(t, want.Tensors[row.Module+"."+param].SHA256, sum(m.Codes), row.Module)
					assert.Equal(t, want.Tensors[row.Module+".weight_scale"].SHA256, sum(m.ScaleCodes), row.Module)
					if s.Rule == numeric.NVFP4 {
						assert.Equal(t, want.Tensors[row.Module+".weight_global_scale"].SHA256, sum(binary.LittleEndian.AppendUint32(nil, math.Float32bits(s.Global))), row.Module)
					}
					v := make([]float32, n*k)
					m.Dequant(v, 0, n)
					assert.Equal(t, want.Dequantized[row.Module], sum(numeric.AppendF32(nil, v)), row.Module)

					s.Arith = numeric.Best
					s.Global = globals[sharesGlobal(row)].Scale(numeric.Best, false)
					_, best, err := numeric.Quantize(s, w, n, k, nil)
					require.NoError(t, err)
					if s.Code == numeric.E4M3 { // a power of two moves no E4M3 value but at the ends of its range
						assert.LessOrEqual(t, best.SumErrSq, plain.SumErrSq, row.Module)
					} else {
						assert.Less(t, best.SumErrSq, plain.SumErrSq, row.Module)
					}
				})
				assert.Equal(t, len(want.Dequantized), seen, "every module has a row")
			})
		}
	}
}
