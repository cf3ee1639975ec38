package check

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

func init() { mutations = append(mutations, typeMutations...) }

// doubled widens BF16, F16 and F32 to F64.
func doubled(x tensor) []tensor {
	var out []byte
	width := x.DType.Bits() / 8
	for i := 0; i < len(x.data); i += width {
		v := make([]float32, 1)
		if err := layout.DecodeFloats(v, x.data[i:i+width], x.DType); err != nil {
			panic(err)
		}
		out = binary.LittleEndian.AppendUint64(out, math.Float64bits(float64(v[0])))
	}
	x.DType, x.data = safetensors.F64, out
	return []tensor{x}
}

// zeros gives a tensor another type, of any width, and zeros.
func zeros(d safetensors.DType) func(tensor) []tensor {
	return func(x tensor) []tensor {
		x.DType, x.data = d, make([]byte, safetensors.DataSize(d, x.Shape))
		return []tensor{x}
	}
}

// after writes something behind the end of the description.
func after(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		patch(t, filepath.Join(dir, declaration.DescriptionName), func(b []byte) []byte { return append(slices.Clone(b), text...) })
	}
}

const (
	bias1 = "model.layers.1.mlp.gate.e_score_correction_bias"
	down1 = "model.layers.1.mlp.shared_experts.down_proj"
)

// Types that no layout stores, and files that engines do not parse: each is a
// finding about the tensor or the file, and ends no check.
var typeMutations = []mutation{
	{"zero bytes behind the description", int8Asc, after("\x00\x00\x00\x00"), "description-invalid", "quant_model_description", true, nil},
	{"two descriptions in one file", int8Asc, after("\n{}"), "description-invalid", "quant_model_description", true, nil},
	{"a description that is no object", int8Asc, func(t *testing.T, dir string) { replace(t, dir, declaration.DescriptionName, "null") },
		"description-invalid", "quant_model_description", true, nil},
	{"a broken description beside the file of ModelOpt", int8Asc, both(after("{}"), func(t *testing.T, dir string) {
		replace(t, dir, modelOptFile, `{"producer":{"name":"modelopt"},"quantization":{"quant_algo":"FP8","exclude_modules":["lm_head"]}}`)
	}), "description-invalid", "quant_model_description", true, nil},
	{"an F64 scale", fp8CT, tensors(one(named("model.layers.1.mlp.experts.2.up_proj.weight_scale"), doubled)), "companion-dtype", "experts.2.up_proj", true, nil},
	{"an F64 norm", plain5, tensors(one(named("model.layers.1.input_layernorm.weight"), doubled)), "tensor-dtype", "input_layernorm", true, nil},
	{"an F64 router bias", plain5, tensors(one(named(bias1), doubled)), "tensor-dtype", bias1, true, nil},
	{"a router bias of integers", plain5, tensors(one(named(bias1), zeros(safetensors.I32))), "tensor-dtype", bias1, true, nil},
	{"a router bias of long integers", plain5, tensors(one(named(bias1), zeros(safetensors.I64))), "tensor-dtype", bias1, true, nil},
	{"a router bias of bytes", plain5, tensors(one(named(bias1), zeros(safetensors.U8))), "tensor-dtype", bias1, true, nil},
	{"a router bias of FP8", plain5, tensors(one(named(bias1), zeros(safetensors.F8E4M3))), "tensor-dtype", bias1, true, nil},
	{"a deq_scale of half bytes", int8Asc, staticWith("deq_scale", safetensors.F4), "static-deq-scale", "q_proj.deq_scale", true, nil},
	{"a deq_scale of six bits", int8Asc, staticWith("deq_scale", safetensors.F6E3M2), "static-deq-scale", "q_proj.deq_scale", true, nil},
	{"a deq_scale of bytes", int8Asc, staticWith("deq_scale", safetensors.U8), "static-deq-scale", "q_proj.deq_scale", true, nil},
	{"a deq_scale of F64", int8Asc, staticWith("deq_scale", safetensors.F64), "static-deq-scale", "q_proj.deq_scale", true, nil},
	{"16 sums of a module that is no expert", int4Asc, slicedInt4, "scale-bias-wrong", down1, true, nil},
}

// staticWith makes linears static and gives one parameter of all another type.
func staticWith(param string, d safetensors.DType) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		static(t, dir, "W8A8")
		retensor(t, dir, one(ending("."+param), zeros(d)))
	}
}

// slicedInt4 makes a shared expert's down_proj W4A8_DYNAMIC with sums that are
// not those of its codes.
func slicedInt4(t *testing.T, dir string) {
	entries := map[string]any{}
	retensor(t, dir, func(x tensor) []tensor {
		module, param, _ := cut(x.Name)
		if module != down1 {
			return []tensor{x}
		}
		entries[x.Name] = "W4A8_DYNAMIC"
		if param != "weight" {
			return []tensor{x}
		}
		bias := tensor{safetensors.Spec{Name: module + ".scale_bias", DType: safetensors.F32, Shape: []int64{x.Shape[0], 16}}, nil}
		for range x.Shape[0] * 16 {
			bias.data = append(bias.data, float(safetensors.F32, 3.25)...)
		}
		entries[bias.Name] = "W4A8_DYNAMIC"
		x.Shape = []int64{x.Shape[0] / 2, x.Shape[1]}
		x.data = x.data[:len(x.data)/2]
		return []tensor{x, bias}
	})
	description(func(m map[string]any) { maps.Copy(m, entries) })(t, dir)
}

// rounded is the head's copy as FP8 releases store it.
func rounded(x tensor) []tensor {
	row, data := make([]float32, x.Shape[1]), slices.Clone(x.data)
	for lo := 0; lo < len(data); lo += 2 * len(row) {
		if err := layout.DecodeFloats(row, data[lo:lo+2*len(row)], x.DType); err != nil {
			panic(err)
		}
		s := numeric.AbsMax(row) / numeric.E4M3Max
		for i := range row {
			row[i] = numeric.E4M3ToF32(numeric.F32ToE4M3(row[i]/s)) * s
		}
		copy(data[lo:], numeric.AppendBF16(nil, row))
	}
	x.data = data
	return []tensor{x}
}

// TestWarningsExplainNoFault: only an error stands for what follows from it, and
// only for the same tensors.
func TestWarningsExplainNoFault(t *testing.T) {
	const o = "model.layers.1.self_attn.o_proj.weight"
	cut := tensors(one(named(o), shorter))
	for name, tc := range map[string]struct {
		base   string
		damage func(*testing.T, string)
		codes  map[string]string // and where
	}{
		"a wrong shape beside a rounded copy of the head": {"nano-glm4moe", both(tensors(one(containing("shared_head.head"), rounded)), cut),
			map[string]string{"tensor-shape": o, "mtp-copy-stale": "shared_head.head"}},
		"a wrong shape beside a copy of the old vocabulary": {"nano-glm4moe", both(tensors(one(containing("layers.3.embed_tokens"), shorter)), cut),
			map[string]string{"tensor-shape": o, "mtp-copy-stale": "embed_tokens"}},
		"a wrong shape beside a head that was resized": {"nano-glm4moe", both(tensors(one(named("lm_head.weight"), shorter)), cut),
			map[string]string{"tensor-shape": o, "vocabulary": "lm_head"}},
		"a wrong copy beside norms that were not folded": {int4Asc, both(tensors(one(named("model.layers.3.embed_tokens.weight"), put(3))),
			description(func(m map[string]any) { m["is_rot_used"] = true })),
			map[string]string{"rotation-mixed": "", "mtp-copy-stale": "embed_tokens"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, tc.base)
			tc.damage(t, dir)
			_ = os.Remove(filepath.Join(dir, "glmconv-manifest.json"))
			r := examine(t, dir, Options{Copies: true})
			assert.False(t, r.OK)
			for code, where := range tc.codes {
				require.True(t, slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == code && strings.Contains(f.Where, where) }),
					"no %s about %q:\n%s", code, where, r.Text())
			}
		})
	}
}

// Weights and scales of another type than the declared form has: no engine's
// parameter takes them, and a module of a form that nothing here knows is not
// merely not judged.
var otherTypes = []mutation{
	{"a weight of E5M2 among E4M3", fp8CT, tensors(one(named(up2+".weight"), retype(safetensors.F8E5M2))), "tensor-dtype", up2, true, nil},
	{"a weight of AMD's E4M3", fp8CT, tensors(one(named(up2+".weight"), retype(safetensors.F8E4M3FNUZ))), "tensor-dtype", up2, true, nil},
	{"bytes for E4M3", blockHF, tensors(one(named(up2+".weight"), retype(safetensors.U8))), "tensor-dtype", up2, true, nil},
	{"bytes without a sign for int8", int8CT, tensors(one(named(up2+".weight"), retype(safetensors.U8))), "tensor-dtype", up2, true, nil},
	{"words of another type", packedCT, tensors(one(named(up2+".weight_packed"), retype(safetensors.U32))), "tensor-dtype", up2, true, nil},
	{"scales of bytes", fp8CT, tensors(one(named(up2+".weight_scale"), zeros(safetensors.U8))), "companion-dtype", up2, true, nil},
	{"names of another tool", fp8CT, tensors(one(containing(up2+"."), func(x tensor) []tensor {
		x.Name = map[string]string{up2 + ".weight": up2 + ".qweight", up2 + ".weight_scale": up2 + ".scales"}[x.Name]
		return []tensor{x}
	})), "weight-encoding", up2, true, nil},
	{"a preset in place of a group", int8CT, quantConfig(func(q map[string]any) { q["config_groups"] = map[string]any{"W8A8": []string{"Linear"}} }),
		"engine-refuses", "", true, map[string]string{"vllm": "refuses", "sglang": "refuses"}},
}

const up2 = "model.layers.1.mlp.experts.2.up_proj"

func init() { mutations = append(mutations, otherTypes...) }

// coded gives the head codes of E4M3 with one scale for it and one for its input.
func coded(t *testing.T, dir string) {
	retensor(t, dir, one(named("lm_head.weight"), func(x tensor) []tensor {
		n := int(x.Shape[0] * x.Shape[1])
		x.DType, x.data = safetensors.F8E4M3, bytes.Repeat([]byte{0x31, 0x7e, 0xb0}, n/3+1)[:n]
		one := func(name string) tensor {
			return tensor{safetensors.Spec{Name: "lm_head." + name, DType: safetensors.F32, Shape: []int64{}}, float(safetensors.F32, 0.01)}
		}
		return []tensor{x, one("weight_scale"), one("input_scale")}
	}))
}

// TestHeadOfCodes: a quantized head is right where the declaration means it and
// engines build it so, and wrong elsewhere.
func TestHeadOfCodes(t *testing.T) {
	declared := func(m map[string]any) {
		for _, key := range []string{"ignore", "exclude_modules"} {
			if list, ok := m[key].([]any); ok {
				m[key] = dropString(list, "lm_head")
			}
		}
	}
	for name, tc := range map[string]struct {
		meant bool
	}{"meant": {true}, "excluded": {false}} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, "foreign/modelopt-fp8")
			coded(t, dir)
			edit(t, dir, "config.json", func(m map[string]any) {
				m["num_nextn_predict_layers"] = 0
				if tc.meant {
					declared(m["quantization_config"].(map[string]any))
				}
			})
			edit(t, dir, modelOptFile, func(m map[string]any) {
				if tc.meant {
					declared(m["quantization"].(map[string]any))
				}
			})
			r := examine(t, dir, Options{Weights: true})
			assert.Equal(t, tc.meant, r.OK, r.Text())
			require.True(t, r.Has("head-quantized"), r.Text())
			if tc.meant {
				assert.Equal(t, map[string]string{"vllm": "loads", "sglang": "loads"}, verdicts(r), r.Text())
			}
		})
	}
}

// Scales that are powers of two are numbers too: whether engines read them is not
// known, and they are no fault.
func TestPowersForScales(t *testing.T) {
	dir := good(t, fp8CT)
	retensor(t, dir, one(named(up2+".weight_scale"), func(x tensor) []tensor {
		x.DType, x.data = safetensors.F8E8M0, bytes.Repeat([]byte{120}, int(x.Shape[0]))
		return []tensor{x}
	}))
	r := examine(t, dir, Options{})
	assert.Nil(t, r.Verdict, r.Text())
}
