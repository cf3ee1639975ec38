package check

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/safetensors"
)

var expertName = regexp.MustCompile(`^(.*\.mlp\.experts\.)(\d+)\.(gate|up|down)_proj\.weight$`)

// stacked writes the experts of every layer as transformers 5 holds them, and
// what change makes of them.
func stacked(change func(x tensor) tensor) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		held := map[string]map[string][]byte{}
		retensor(t, dir, func(x tensor) []tensor {
			f := expertName.FindStringSubmatch(x.Name)
			if f == nil {
				return []tensor{x}
			}
			parts := held[f[1]]
			if parts == nil {
				parts = map[string][]byte{}
				held[f[1]] = parts
			}
			parts[f[2]+f[3]] = x.data
			const experts = 8
			if len(parts) < 3*experts {
				return nil
			}
			o, i := x.Shape[0], x.Shape[1]
			if f[3] == "down" {
				o, i = i, o
			}
			gateUp := tensor{safetensors.Spec{Name: f[1] + "gate_up_proj", DType: x.DType, Shape: []int64{experts, 2 * o, i}}, nil}
			down := tensor{safetensors.Spec{Name: f[1] + "down_proj", DType: x.DType, Shape: []int64{experts, i, o}}, nil}
			for e := range experts {
				n := string(rune('0' + e))
				gateUp.data = append(append(gateUp.data, parts[n+"gate"]...), parts[n+"up"]...)
				down.data = append(down.data, parts[n+"down"]...)
			}
			return []tensor{change(gateUp), change(down)}
		})
	}
}

func asIs(x tensor) tensor { return x }

// inStack damages one stack of layer 1.
func inStack(end string, damage func(x *tensor)) func(x tensor) tensor {
	return func(x tensor) tensor {
		if strings.Contains(x.Name, "layers.1.") && strings.HasSuffix(x.Name, end) {
			damage(&x)
		}
		return x
	}
}

func as(d safetensors.DType) func(x tensor) tensor {
	return func(x tensor) tensor { return zeros(d)(x)[0] }
}

func init() { mutations = append(mutations, stackedMutations...) }

var stackedMutations = []mutation{
	{"NaN in a stacked expert", "nano-glm4moe", stacked(inStack("gate_up_proj", func(x *tensor) {
		binary.LittleEndian.PutUint16(x.data[len(x.data)/2+2:], 0x7fc0)
	})), "weight-nonfinite", "layers.1.mlp.experts.gate_up_proj", true, map[string]string{"vllm": "differs"}},
	{"a hole in stacked experts", "nano-glm4moe", stacked(inStack("down_proj", func(x *tensor) { clear(x.data[len(x.data)/4 : 3*len(x.data)/4]) })),
		"weight-zero", "layers.1.mlp.experts.down_proj", true, nil},
	{"a stacked expert of one value", plain5, stacked(inStack("down_proj", func(x *tensor) {
		for i := 2; i < len(x.data)/8; i++ {
			x.data[i] = x.data[i%2]
		}
	})), "weight-constant", "layers.1.mlp.experts.down_proj", true, nil},
	{"stacked experts of FP8 without a declaration", plain5, stacked(as(safetensors.F8E4M3)), "tensor-dtype", "experts.gate_up_proj", true, nil},
	{"stacked experts of bytes without a declaration", "nano-glm4moe", stacked(as(safetensors.I8)), "tensor-dtype", "experts.down_proj", true, nil},
	{"stacked experts of F64", "nano-glm4moe", stacked(inStack("down_proj", func(x *tensor) { *x = doubled(*x)[0] })), "tensor-dtype", "experts.down_proj", true, nil},
}

// TestStackedExperts: engines differ in what they make of them.
func TestStackedExperts(t *testing.T) {
	for base, want := range map[string]map[string]string{
		plain5:         {"vllm": "refuses", "sglang": "loads", "vllm-ascend": "refuses"},
		"nano-glm4moe": {"vllm": "loads", "sglang": "differs", "vllm-ascend": "not-judged"},
	} {
		t.Run(base, func(t *testing.T) {
			dir := good(t, base)
			stacked(asIs)(t, dir)
			r := examine(t, dir, Options{Weights: true})
			assert.True(t, r.OK, r.Text())
			got := verdicts(r)
			for e, answer := range want {
				if _, asked := got[e]; asked {
					assert.Equal(t, answer, got[e], "%s: %s", e, r.Text())
				}
			}
			refusing := "vllm"
			if base != plain5 {
				refusing = "sglang"
			}
			assert.False(t, examine(t, dir, Options{Engines: []string{refusing}}).OK)
		})
	}
}

// Codes of stacked experts that are declared are not judged, and never good.
func TestStackedCodes(t *testing.T) {
	dir := good(t, "nano-glm4moe")
	stacked(as(safetensors.F8E4M3))(t, dir)
	config(func(m map[string]any) {
		m["quantization_config"] = map[string]any{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": []int{128, 128}, "modules_to_not_convert": []string{"self_attn"}}
	})(t, dir)
	r := examine(t, dir, Options{Weights: true})
	require.False(t, r.OK, r.Text())
}

// Stacked experts in full precision under a declaration that means them are told
// as single ones are.
func TestStackedNotQuantized(t *testing.T) {
	dir := good(t, plain5)
	stacked(asIs)(t, dir)
	config(func(m map[string]any) {
		m["quantization_config"] = map[string]any{"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": []int{128, 128}}
	})(t, dir)
	retensor(t, dir, one(ending("layers.0.self_attn.o_proj.weight"), quantize(safetensors.F8E4M3, "weight_scale_inv", safetensors.F32)))
	r := examine(t, dir, Options{})
	var where []string
	for _, f := range r.Found {
		if f.Code == "weight-not-quantized" {
			where = append(where, f.Where)
		}
	}
	assert.Contains(t, where, "model.layers.1.mlp.experts.0.gate_proj")
	assert.Contains(t, where, "model.layers.2.mlp.experts.7.down_proj")
}

// Weights and scales of other tools are read as all others are.
var foreignValues = []mutation{
	{"a hole in the words of GPTQ", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.qweight"), zeroed(0, 1))), "weight-zero", "o_proj.qweight", true, nil},
	{"a hole in a part of the words of AWQ", "foreign/awq", tensors(one(ending("layers.0.mlp.up_proj.qweight"), zeroed(0, 1))), "weight-zero", "up_proj.qweight", true, nil},
	{"NaN among the scales of GPTQ", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.scales"), half16(0x7e00))), "scale-nonfinite", "o_proj.scales", true, nil},
	{"a zero scale of GPTQ", "foreign/gptq-asym", tensors(one(ending("layers.1.mlp.experts.2.up_proj.scales"), half16(0))), "scale-zero", "up_proj.scales", true, nil},
	{"NaN among the scales of AutoRound", "foreign/autoround-gptq", tensors(one(ending("layers.1.self_attn.o_proj.scales"), half16(0x7e00))), "scale-nonfinite", "o_proj.scales", true, nil},
	{"a scale of ModelOpt's FP8 that is zero", "foreign/modelopt-fp8", tensors(one(ending("layers.1.self_attn.o_proj.weight_scale"), put(0))), "scale-zero", "o_proj.weight_scale", true, nil},
	{"NaN among the scales of ModelOpt's NVFP4", "foreign/modelopt-nvfp4", tensors(one(ending("layers.1.self_attn.o_proj.weight_scale"), func(x tensor) []tensor {
		x.data[5] = 0x7f
		return []tensor{x}
	})), "scale-nonfinite", "o_proj.weight_scale", true, nil},
	{"zero scales of ModelOpt's NVFP4", "foreign/modelopt-nvfp4", tensors(one(ending("layers.1.self_attn.o_proj.weight_scale"), zeroed(0, 0.5))), "scale-zero", "o_proj.weight_scale", true, nil},
	{"NaN among the scales of Quark", "foreign/quark-mxfp4", tensors(one(ending("layers.1.mlp.experts.2.up_proj.weight_scale"), func(x tensor) []tensor {
		x.data[5] = 0xff
		return []tensor{x}
	})), "scale-nonfinite", "up_proj.weight_scale", true, nil},
	{"a group of GPTQ that there is not", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.g_idx"), func(x tensor) []tensor {
		x.data[9] = 7
		return []tensor{x}
	})), "code-range", "o_proj.g_idx", true, nil},
	{"zero points of GPTQ's second version declared as the first", "foreign/gptq-int4-int8", declaredAs("checkpoint_format", "gptq_v2"), "zero-point-wrong", "qzeros", true, nil},
	{"a zero point of symmetric codes", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.qzeros"), func(x tensor) []tensor {
		x.data[0] ^= 3
		return []tensor{x}
	})), "zero-point-wrong", "o_proj.qzeros", true, map[string]string{"sglang": "differs"}},
	{"zero points of AWQ that the declaration denies", "foreign/awq", declaredAs("zero_point", false), "zero-point-wrong", "qzeros", true, nil},
	{"columns of GPTQ in an order that is not declared", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.g_idx"), func(x tensor) []tensor {
		x.data[0], x.data[4*(len(x.data)/4-1)] = x.data[4*(len(x.data)/4-1)], x.data[0]
		return []tensor{x}
	})), "order-undeclared", "o_proj.g_idx", true, map[string]string{"sglang": "differs"}},
	{"an order of GPTQ that is declared and not stored", "foreign/gptq-int4-int8", func(t *testing.T, dir string) {
		declaredAs("desc_act", true)(t, dir)
		retensor(t, dir, one(ending("layers.1.mlp.experts.2.up_proj.g_idx"), drop))
	}, "companion-missing", "experts.2.up_proj.g_idx", true, nil},
	{"words of AWQ declared as GPTQ's", "foreign/awq", declaredAs("quant_method", "gptq", "desc_act", false), "weight-encoding", "layers.0.self_attn", true, map[string]string{"vllm": "refuses"}},
	{"words of GPTQ declared as AWQ's", "foreign/gptq-asym", declaredAs("quant_method", "awq", "zero_point", true), "weight-encoding", "layers.0.self_attn", true, map[string]string{"vllm": "refuses"}},
	{"words of GPTQ declared as AutoRound's for AWQ", "foreign/autoround-gptq", declaredAs("packing_format", "auto_round:auto_awq"), "weight-encoding", "layers.0.self_attn", true, nil},
	{"E5M2 for ModelOpt's FP8", "foreign/modelopt-fp8", tensors(one(ending("layers.1.self_attn.o_proj.weight"), retype(safetensors.F8E5M2))), "tensor-dtype", "o_proj.weight", true, nil},
	{"bytes for ModelOpt's FP8", "foreign/modelopt-fp8", tensors(one(ending("layers.1.self_attn.o_proj.weight"), retype(safetensors.U8))), "tensor-dtype", "o_proj.weight", true, nil},
	{"words of GPTQ of another type", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.qweight"), retype(safetensors.F32))), "tensor-dtype", "o_proj.qweight", true, nil},
	{"scales of GPTQ that are integers", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.scales"), retype(safetensors.I16))), "companion-dtype", "o_proj.scales", true, nil},
	{"groups of GPTQ that are no integers", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.g_idx"), retype(safetensors.F32))), "companion-dtype", "o_proj.g_idx", true, nil},
	{"words of GPTQ that are lost", "foreign/gptq-int4-int8", tensors(one(ending("layers.1.self_attn.o_proj.qweight"), drop)), "tensor-missing", "layers.1.self_attn.o_proj", true, nil},
	{"a weight lost, its scale left", fp8CT, tensors(one(named(up2+".weight"), drop)), "tensor-missing", up2, true, nil},
	{"packed codes lost, their scale left", packedCT, tensors(one(named(up2+".weight_packed"), drop)), "tensor-missing", up2, true, nil},
	{"F64 scales of AWQ", "foreign/awq", tensors(one(ending("layers.0.mlp.up_proj.scales"), doubled)), "companion-dtype", "up_proj.scales", true, nil},
}

// half16 writes the bits of an F16 value over the third element.
func half16(bits uint16) func(tensor) []tensor {
	return func(x tensor) []tensor { binary.LittleEndian.PutUint16(x.data[4:], bits); return []tensor{x} }
}

// declaredAs sets keys of the declaration: a name and a value, and so on.
func declaredAs(pairs ...any) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		edit(t, dir, "config.json", func(m map[string]any) {
			q := m["quantization_config"].(map[string]any)
			for i := 0; i < len(pairs); i += 2 {
				q[pairs[i].(string)] = pairs[i+1]
			}
		})
	}
}

func init() { mutations = append(mutations, foreignValues...) }

// TestUnreadTensor: why weights are not judged names the tensor that nothing here
// reads.
func TestUnreadTensor(t *testing.T) {
	dir := good(t, "foreign/modelopt-nvfp4")
	withoutDraft(t, dir)
	retensor(t, dir, one(ending("layers.1.self_attn.o_proj.weight_scale_2"), func(x tensor) []tensor {
		more := x
		more.Name = "model.layers.1.self_attn.o_proj.pre_quant_scale"
		return []tensor{x, more}
	}))
	r := examine(t, dir, Options{})
	assert.False(t, r.OK, r.Text())
	assert.Equal(t, "not-judged", verdicts(r)["vllm"], r.Text())
	assert.Contains(t, r.Text(), "o_proj.pre_quant_scale (a scale of ModelOpt's AWQ")
}

// TestDeclaredBeside: a declaration in a file that engines do not read is named
// with the way to where they look.
func TestDeclaredBeside(t *testing.T) {
	dir := good(t, "foreign/gptq-int4-int8")
	var q any
	edit(t, dir, "config.json", func(m map[string]any) { q = m["quantization_config"]; delete(m, "quantization_config") })
	require.NoError(t, os.Remove(filepath.Join(dir, "quantization_config.json")))
	raw, err := json.Marshal(q)
	require.NoError(t, err)
	replace(t, dir, "quantize_config.json", string(raw))
	r := examine(t, dir, Options{})
	assert.Contains(t, r.Cause, "quantize_config.json alone")
	assert.Contains(t, r.Text(), "put what quantize_config.json holds into config.json")
	assert.False(t, r.Has("quant-config-differs"), r.Text())
	in, err := Inspect(dir)
	require.NoError(t, err)
	assert.Contains(t, strings.Join(in.Problems, "\n"), "quantize_config.json declares gptq")
}

// TestMLXCodes: codes of MLX under the model's own names are called MLX's.
func TestMLXCodes(t *testing.T) {
	dir := good(t, "nano-glm4moe")
	edit(t, dir, "config.json", func(m map[string]any) { m["quantization"] = map[string]any{"group_size": 64, "bits": 4} })
	retensor(t, dir, one(ending("layers.1.self_attn.o_proj.weight"), func(x tensor) []tensor {
		codes, scales, biases := x, x, x
		codes.DType, codes.Shape, codes.data = safetensors.U32, []int64{x.Shape[0], x.Shape[1] / 8}, x.data[:len(x.data)/4]
		scales.Name, biases.Name = strings.TrimSuffix(x.Name, "weight")+"scales", strings.TrimSuffix(x.Name, "weight")+"biases"
		scales.Shape = []int64{x.Shape[0], x.Shape[1] / 64}
		scales.data = x.data[:len(x.data)/64]
		biases.Shape, biases.data = scales.Shape, scales.data
		return []tensor{codes, scales, biases}
	}))
	r := examine(t, dir, Options{})
	assert.Contains(t, r.Cause, "quantised by MLX")
	assert.False(t, r.Has("config-not-quantized"), r.Text())
}

// TestOrderedColumns: an order of columns that is declared is no fault of the
// file, and the plain order none where nothing is said.
func TestOrderedColumns(t *testing.T) {
	dir := good(t, "foreign/gptq-int4-int8")
	declaredAs("desc_act", true)(t, dir)
	retensor(t, dir, one(ending("layers.1.self_attn.o_proj.g_idx"), func(x tensor) []tensor {
		x.data[0], x.data[4*(len(x.data)/4-1)] = x.data[4*(len(x.data)/4-1)], x.data[0]
		return []tensor{x}
	}))
	r := examine(t, dir, Options{})
	assert.False(t, r.Has("order-undeclared"), r.Text())
	assert.False(t, r.Has("companion-missing"), r.Text())
}
