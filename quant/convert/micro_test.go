package convert

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// torchTypes are the dtypes of recorded tensors.
var torchTypes = map[string]safetensors.DType{"bfloat16": safetensors.BF16, "float32": safetensors.F32,
	"uint8": safetensors.U8, "float8_e4m3fn": safetensors.F8E4M3}

// TestMicroIsLLMCompressors: compat writes the tensors of llm-compressor, names,
// dtypes, shapes and bytes, and says of the weights what it says.
func TestMicroIsLLMCompressors(t *testing.T) {
	schemes := map[string]quant.Scheme{"NVFP4A16": quant.NVFP4A16, "MXFP4A16": quant.MXFP4A16, "MXFP4": quant.MXFP4,
		"MXFP8A16": quant.MXFP8A16, "MXFP8": quant.MXFP8}
	for _, model := range []string{"nano-glm4moe", "tiny-glm4moe"} {
		raw, err := os.ReadFile(testkit.Shared(t, "reference/golden/"+model+"/quantized_tensors_fp4.json"))
		require.NoError(t, err)
		var golden map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &golden))
		src := openShared(t, "reference/"+model)
		for name, scheme := range schemes {
			if golden[name] == nil {
				continue
			}
			t.Run(model+"/"+name, func(t *testing.T) {
				var want struct {
					Config struct {
						Groups map[string]map[string]any `json:"config_groups"`
						Format string                    `json:"format"`
					} `json:"quantization_config"`
					Tensors map[string]struct {
						File, DType, SHA256 string
						Shape               []int64
					}
				}
				require.NoError(t, json.Unmarshal(golden[name], &want))
				p, out := convertTo(t, src, scheme, layout.CompressedTensors,
					quant.Options{Arith: numeric.Compat, MTP: layout.MTPQuantize, Rest: layout.RestSame}, Options{Workers: 2})
				assert.Len(t, out.Tensors(), len(want.Tensors))
				for tensor, w := range want.Tensors {
					got, ok := out.Info(tensor)
					if !assert.True(t, ok, tensor) {
						continue
					}
					assert.Equal(t, torchTypes[w.DType], got.DType, tensor)
					assert.Equal(t, w.Shape, got.Shape, tensor)
					assert.Equal(t, w.File, got.File, tensor)
					assert.Equal(t, w.SHA256, tensorSum(t, out, tensor), tensor)
				}
				var have struct {
					Q struct {
						Groups map[string]map[string]any `json:"config_groups"`
						Format string                    `json:"format"`
					} `json:"quantization_config"`
				}
				require.NoError(t, json.Unmarshal(p.Configs["config.json"].Bytes(), &have))
				assert.Equal(t, want.Config.Format, have.Q.Format)
				assert.Equal(t, want.Config.Groups[name], have.Q.Groups["group_0"])
			})
		}
	}
}

// TestModelOptIsModelOpts: compat writes the bytes of ModelOpt's own export of
// the same weights: codes, scales and the scales of scales that it shares over
// q, k and v and over gate and up, and both forms of its declaration.
func TestModelOptIsModelOpts(t *testing.T) {
	theirs := openShared(t, "reference/foreign/modelopt-nvfp4")
	in := &quant.Inputs{Source: "ModelOpt's", AbsMax: map[string]float32{}}
	for _, info := range theirs.Tensors() {
		if module, ok := strings.CutSuffix(info.Name, ".input_scale"); ok {
			in.AbsMax[module] = 2688 * number(t, theirs, info)
		}
	}
	p, ours := convertTo(t, openShared(t, "reference/nano-glm4moe"), quant.NVFP4, layout.ModelOpt,
		quant.Options{Arith: numeric.Compat, Rest: layout.RestSame, Inputs: in}, Options{Workers: 2})
	n := 0
	for _, info := range theirs.Tensors() {
		got, ok := ours.Info(info.Name)
		if !assert.True(t, ok, info.Name) {
			continue
		}
		assert.Equal(t, info.DType, got.DType, info.Name)
		assert.Equal(t, info.Shape, got.Shape, info.Name)
		if strings.HasSuffix(info.Name, ".input_scale") {
			assert.InEpsilon(t, number(t, theirs, info), number(t, ours, got), 1e-6, info.Name)
			continue
		}
		assert.Equal(t, tensorSum(t, theirs, info.Name), tensorSum(t, ours, info.Name), info.Name)
		n++
	}
	assert.Greater(t, n, 3*60)
	for _, info := range ours.Tensors() {
		if _, ok := theirs.Info(info.Name); !ok {
			assert.True(t, strings.HasPrefix(info.Name, "model.layers.3."), "%s: ModelOpt loses the MTP layer alone", info.Name)
			assert.NotEqual(t, safetensors.U8, info.DType, info.Name)
		}
	}
	for name, keys := range map[string]string{"config.json": "quantization_config", "hf_quant_config.json": "quantization"} {
		raw, err := os.ReadFile(filepath.Join(theirs.Dir(), name))
		require.NoError(t, err)
		var want, have map[string]map[string]any
		_ = json.Unmarshal(raw, &want) // values of other types
		_ = json.Unmarshal(p.Configs[name].Bytes(), &have)
		for _, list := range []string{"ignore", "exclude_modules"} {
			if want[keys][list] != nil {
				assert.Subset(t, have[keys][list], []any{"lm_head", "model.embed_tokens", "model.layers.*.mlp.gate", "model.layers.3.*"})
			}
			delete(want[keys], list)
			delete(have[keys], list)
		}
		assert.NotEmpty(t, want[keys])
		assert.Equal(t, want[keys], have[keys], name)
	}
}

// number reads a tensor of one F32.
func number(t *testing.T, c *safetensors.Checkpoint, info safetensors.Info) float32 {
	var b [4]byte
	require.NoError(t, c.ReadAt(info, 0, b[:]))
	return math.Float32frombits(binary.LittleEndian.Uint32(b[:]))
}

// TestGlobalsAreShared: best has one global scale for each fused set, whatever
// the parts and the memory, and the smaller error.
func TestGlobalsAreShared(t *testing.T) {
	src := openShared(t, "reference/nano-glm4moe")
	o := quant.Options{MTP: layout.MTPQuantize, Rest: layout.RestSame}
	p, out := convertTo(t, src, quant.NVFP4A16, "", o, Options{Workers: 3})
	sets := map[string]string{}
	for i := range p.Items {
		it := &p.Items[i]
		if !it.HasGlobalScale() {
			continue
		}
		set, sum := p.GlobalSet(it.Weight.Tensor), tensorSum(t, out, it.Weight.Tensor.Module+".weight_global_scale")
		if have, ok := sets[set]; ok {
			assert.Equal(t, have, sum, it.Name())
		}
		sets[set] = sum
		if r := it.Weight.Tensor.Role; r == glm.ExpertGate || r == glm.SharedGate || r == glm.AttnQ {
			assert.Greater(t, len(newGlobals(p).sets[set]), 1, it.Name())
		}
	}
	o.Arith = numeric.Compat
	_, compat := convertTo(t, src, quant.NVFP4A16, "", o, Options{})
	best, err := quant.ReadManifest(out.Dir())
	require.NoError(t, err)
	plain, err := quant.ReadManifest(compat.Dir())
	require.NoError(t, err)
	require.Len(t, plain.Tensors, len(best.Tensors))
	for i := range best.Tensors {
		assert.Less(t, best.Tensors[i].Relative, plain.Tensors[i].Relative, best.Tensors[i].Name)
	}
}
