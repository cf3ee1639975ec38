package check

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/safetensors"
)

// TestPublished: checkpoints of other tools are called what they are, and what
// is wrong with them has a name; engines are judged by their tables and their
// matching; what no table says of an engine is not judged.
func TestPublished(t *testing.T) {
	for _, tc := range []struct {
		dir     string
		layout  string
		codes   []string // that are found
		cause   string
		judged  bool // a verdict
		engines map[string]string
	}{
		// SGLang drops codes that no parameter has the names of, and its draft is noise
		{"foreign/autoround-gptq", "auto-round (gptq) int4 group 32", []string{"eh-proj-quantized", "quant-method-published"}, "eh_proj", true,
			map[string]string{"vllm": "refuses", "sglang": "differs"}},
		// block_name_to_quantize means the draft's head too, which has no codes: vLLM's own loader stops with a KeyError
		{"foreign/autoround-mxfp4", "auto-round (compressed-tensors) mxfp4 group 32", []string{"engine-refuses", "engine-misreads"}, "model.layers.3.head", true,
			map[string]string{"vllm": "refuses", "sglang": "refuses"}},
		{"foreign/awq", "awq int4 group 32", []string{"weight-not-quantized", "bias-cast"}, "MTP layer is full precision", true,
			map[string]string{"vllm": "refuses", "sglang": "differs"}},
		{"foreign/gptq-asym", "gptq int4 group 64", []string{"weight-not-quantized", "engine-refuses", "bias-cast"}, "MTP layer is full precision", true,
			map[string]string{"vllm": "refuses", "sglang": "refuses"}},
		{"foreign/gptq-int4-int8", "gptq int4 group 32", []string{"weight-not-quantized"}, "MTP layer is full precision", true,
			map[string]string{"vllm": "refuses"}},
		{"foreign/modelopt-fp8", "modelopt fp8 tensor", []string{"config-mtp-absent", "quant-method-published"}, "MTP layer", true,
			map[string]string{"vllm": "loads", "sglang": "loads"}},
		{"foreign/modelopt-nvfp4", "modelopt fp4 group 16 below a tensor scale", []string{"config-mtp-absent"}, "MTP layer", true,
			map[string]string{"vllm": "loads", "sglang": "loads"}},
		// its exclusions of the MTP layer have no names that SGLang's draft of GLM-4.x is asked for by
		{"foreign/quark-mxfp4", "quark mxfp4 group 32", []string{"quant-method-published", "engine-misreads"}, "model.decoder", true,
			map[string]string{"vllm": "loads", "sglang": "refuses"}},
	} {
		t.Run(tc.dir, func(t *testing.T) {
			r := examine(t, testkit.Shared(t, "reference/"+tc.dir), Options{})
			for _, code := range tc.codes {
				assert.True(t, r.Has(code), "%s:\n%s", code, r.Text())
			}
			assert.Equal(t, tc.layout, r.Layout)
			assert.Contains(t, r.Cause, tc.cause)
			assert.False(t, r.OK, "never good: %s", r.Text())
			assert.Equal(t, tc.judged, r.Verdict != nil, r.Text())
			for e, want := range tc.engines {
				assert.Equal(t, want, verdicts(r)[e], e)
			}
			assert.NotContains(t, r.Text(), "%!")
		})
	}
}

// TestMisfits: what the engines make of a module of other tools that is declared
// as codes and stored in full precision, or the other way round: their own
// loaders' answers (interop/tests/foreign.py). vLLM has no place for a tensor
// that no parameter has the name of, SGLang drops it; shapes are compared, but by
// layers that are split by their inputs.
func TestMisfits(t *testing.T) {
	left := func(module string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			edit(t, dir, "config.json", func(m map[string]any) {
				q := m["quantization_config"].(map[string]any)
				for _, key := range []string{"modules_to_not_convert", "ignore", "exclude"} {
					if list, ok := q[key].([]any); ok || q["quant_method"] == "awq" && key == "modules_to_not_convert" {
						q[key] = append(list, module)
					}
				}
			})
			if _, err := os.Stat(filepath.Join(dir, "hf_quant_config.json")); err == nil {
				edit(t, dir, "hf_quant_config.json", func(m map[string]any) {
					q := m["quantization"].(map[string]any)
					q["exclude_modules"] = append(q["exclude_modules"].([]any), module)
				})
			}
		}
	}
	for _, tc := range []struct {
		name, dir, module string
		damage            func(module string) func(*testing.T, string)
		vllm, sglang      string
	}{
		{"names of their own, none", "foreign/awq", "", nil, "loads", "loads"},
		{"names of their own, plain", "foreign/awq", "model.layers.1.self_attn.o_proj", inFull, "refuses", "differs"},
		{"names of their own, plain, joined", "foreign/awq", "model.layers.0.mlp.up_proj", inFull, "refuses", "differs"},
		{"names of their own, plain, an expert", "foreign/awq", "model.layers.1.mlp.experts.0.down_proj", inFull, "refuses", "differs"},
		{"names of their own, left alone", "foreign/awq", "model.layers.1.self_attn.o_proj", left, "refuses", "differs"},
		{"halves, plain, split by inputs", "foreign/modelopt-nvfp4", "model.layers.1.self_attn.o_proj", inFull, "refuses", "differs"},
		{"halves, plain, split by outputs", "foreign/modelopt-nvfp4", "model.layers.1.self_attn.q_proj", inFull, "refuses", "refuses"},
		{"halves, plain, shared", "foreign/modelopt-nvfp4", "model.layers.1.mlp.shared_experts.down_proj", inFull, "refuses", "refuses"},
		{"halves, plain, an expert", "foreign/modelopt-nvfp4", "model.layers.1.mlp.experts.0.down_proj", inFull, "refuses", "refuses"},
		{"halves, left alone, split by inputs", "foreign/modelopt-nvfp4", "model.layers.0.mlp.down_proj", left, "refuses", "differs"},
		{"halves, an expert left alone, which SGLang's lists do not mean", "foreign/modelopt-nvfp4", "model.layers.1.mlp.experts.0.down_proj", left, "refuses", "loads"},
		{"halves of Quark, plain, split by inputs", "foreign/quark-mxfp4", "model.layers.1.self_attn.o_proj", inFull, "differs", "differs"},
		{"halves of Quark, plain, split by inputs, dense", "foreign/quark-mxfp4", "model.layers.0.mlp.down_proj", inFull, "differs", "differs"},
		{"halves of Quark, plain, split by outputs", "foreign/quark-mxfp4", "model.layers.0.mlp.up_proj", inFull, "refuses", "refuses"},
		{"halves of Quark, plain, shared", "foreign/quark-mxfp4", "model.layers.1.mlp.shared_experts.down_proj", inFull, "differs", "refuses"},
		{"halves of Quark, left alone, split by inputs", "foreign/quark-mxfp4", "model.layers.1.self_attn.o_proj", left, "refuses", "differs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := good(t, tc.dir)
			withoutDraft(t, dir)
			if tc.damage != nil {
				tc.damage(tc.module)(t, dir)
			}
			r := examine(t, dir, Options{})
			assert.Equal(t, tc.vllm, verdicts(r)["vllm"], r.Text())
			assert.Equal(t, tc.sglang, verdicts(r)["sglang"], r.Text())
			assert.False(t, r.OK && tc.damage != nil, r.Text())
		})
	}
	t.Run("GPTQ, whose linears vLLM builds as they are stored", func(t *testing.T) {
		dir := good(t, "foreign/gptq-int4-int8")
		withoutDraft(t, dir)
		inFull("model.layers.1.self_attn.o_proj")(t, dir)
		r := examine(t, dir, Options{Hardware: "h100", Engines: []string{"sglang"}})
		assert.False(t, r.OK, r.Text())
		assert.NotContains(t, r.Text(), "vLLM 0.33: it stops")
	})
	t.Run("formats that differ, on a GPU", func(t *testing.T) {
		r := examine(t, testkit.Shared(t, "reference/foreign/gptq-int4-int8"), Options{Hardware: "h100", Engines: []string{"vllm", "sglang"}})
		assert.Equal(t, map[string]string{"vllm": "refuses", "sglang": "refuses"}, verdicts(r), r.Text())
	})
}

// inFull stores a module in full precision.
func inFull(module string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		ckpt, err := safetensors.OpenDir(dir)
		require.NoError(t, err)
		defer ckpt.Close()
		var shape []int64
		if x, ok := ckpt.Info(module + ".g_idx"); ok { // GPTQ's [I]
			w, _ := ckpt.Info(module + ".qweight")
			shape = []int64{w.Shape[1], x.Shape[0]}
		} else if x, ok := ckpt.Info(module + ".qweight"); ok { // AWQ's, [I, O/8]
			shape = []int64{8 * x.Shape[1], x.Shape[0]}
		} else {
			x, ok := ckpt.Info(module + ".weight")
			require.True(t, ok, module)
			shape = []int64{x.Shape[0], 2 * x.Shape[1]}
		}
		done := false
		retensor(t, dir, func(x tensor) []tensor {
			if !strings.HasPrefix(x.Name, module+".") || strings.HasSuffix(x.Name, ".bias") {
				return []tensor{x}
			}
			if done {
				return nil
			}
			done = true
			x.Name, x.DType, x.Shape, x.data = module+".weight", safetensors.BF16, shape, make([]byte, 2*shape[0]*shape[1])
			for i := range x.data {
				x.data[i] = byte(0x3c + i%3) // numbers of any kind
			}
			return []tensor{x}
		})
	}
}

// withoutDraft takes the MTP layer from a checkpoint of three layers.
func withoutDraft(t *testing.T, dir string) {
	edit(t, dir, "config.json", func(m map[string]any) {
		m["num_nextn_predict_layers"] = 0
		q := m["quantization_config"].(map[string]any)
		for _, key := range []string{"ignore", "exclude"} { // patterns that would match nothing
			if list, ok := q[key].([]any); ok {
				q[key] = slices.DeleteFunc(list, func(x any) bool { return strings.Contains(x.(string), "layers.3") })
			}
		}
	})
	ckpt, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	_, stored := ckpt.Info("model.layers.3.eh_proj.weight")
	require.NoError(t, ckpt.Close())
	if !stored {
		return
	}
	retensor(t, dir, func(x tensor) []tensor {
		if strings.HasPrefix(x.Name, "model.layers.3.") {
			return nil
		}
		return []tensor{x}
	})
}

// TestPublishedForms: a form of another tool that nothing here reads is not
// judged, whatever else is known of it, and never good.
func TestPublishedForms(t *testing.T) {
	for _, tc := range []struct{ name, dir, key, value string }{
		{"words for Marlin", "foreign/gptq-int4-int8", "checkpoint_format", "marlin"},
		{"another order of AWQ", "foreign/awq", "version", "gemv"},
		{"numbers that nobody knows", "foreign/autoround-mxfp4", "data_type", "zz"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := good(t, tc.dir)
			edit(t, dir, "config.json", func(m map[string]any) {
				m["quantization_config"].(map[string]any)[tc.key] = tc.value
			})
			r := examine(t, dir, Options{})
			assert.False(t, r.OK, r.Text())
			assert.NotEqual(t, "loads", verdicts(r)["vllm"], r.Text())
		})
	}
}

// TestUnsharedGlobals: llm-compressor gives gate and up of an expert a global
// scale each, which is said with the ratio.
func TestUnsharedGlobals(t *testing.T) {
	r := examine(t, testkit.Shared(t, "reference/nano-glm4moe-quantized/NVFP4A16"), Options{})
	assert.Equal(t, "compressed-tensors NVFP4", r.Layout)
	assert.True(t, r.Has("global-scale-unshared"), r.Text())
	assert.Contains(t, r.Text(), "times that of")
	assert.Equal(t, map[string]string{"vllm": "loads", "sglang": "loads"}, verdicts(r))
}

// TestPublishedDamage: what happens to files of other tools.
func TestPublishedDamage(t *testing.T) {
	config := func(old, neu string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			edit(t, dir, "config.json", func(m map[string]any) {
				q := m["quantization_config"].(map[string]any)
				for k, v := range q {
					list, ok := v.([]any)
					if !ok {
						continue
					}
					kept := dropString(list, old)
					if neu != "" {
						kept = append(kept, neu)
					}
					q[k] = kept
				}
			})
		}
	}
	for _, tc := range []struct {
		name, dir string
		damage    func(t *testing.T, dir string)
		code      string
		where     string
	}{
		{"an exclusion too many", "foreign/quark-mxfp4", config("", "model.layers.1.self_attn.o_proj"), "ignored-but-quantized", "layers.1.self_attn.o_proj"},
		{"one too few", "foreign/quark-mxfp4", config("model.layers.3.mlp.experts.0.gate_proj", ""), "weight-not-quantized", "layers.3.mlp.experts.0.gate_proj"},
		{"an entry that matches nothing", "foreign/quark-mxfp4", config("", "model.layers.9.*"), "pattern-unused", "layers.9"},
		{"scales of another weight", "foreign/autoround-mxfp4", func(t *testing.T, dir string) {
			retensor(t, dir, func(x tensor) []tensor {
				if strings.HasSuffix(x.Name, "layers.0.mlp.up_proj.weight_scale") {
					x.Shape[0]--
					x.data = x.data[:x.Shape[0]*x.Shape[1]]
				}
				return []tensor{x}
			})
		}, "companion-shape", "layers.0.mlp.up_proj"},
		{"a weight in another format", "foreign/modelopt-nvfp4", func(t *testing.T, dir string) {
			retensor(t, dir, func(x tensor) []tensor {
				if strings.HasSuffix(x.Name, "layers.0.mlp.up_proj.weight_scale") {
					x.DType, x.Shape = safetensors.U8, []int64{x.Shape[0], x.Shape[1] / 2}
					x.data = x.data[:x.Shape[0]*x.Shape[1]]
				}
				if strings.HasSuffix(x.Name, "layers.0.mlp.up_proj.weight_scale_2") {
					return nil
				}
				return []tensor{x}
			})
		}, "weight-encoding", "layers.0.mlp.up_proj"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := good(t, tc.dir)
			tc.damage(t, dir)
			r := examine(t, dir, Options{})
			hit := false
			for _, f := range r.Findings {
				hit = hit || f.Code == tc.code && strings.Contains(f.Where, tc.where)
			}
			require.True(t, hit, "no %s about %q:\n%s", tc.code, tc.where, r.Text())
			assert.False(t, r.OK)
		})
	}
}

// TestUndeclared: codes without any declaration are no model, whichever tool
// they are of.
func TestUndeclared(t *testing.T) {
	entries, err := os.ReadDir(testkit.Shared(t, "reference/foreign"))
	require.NoError(t, err)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			dir := good(t, "foreign/"+e.Name())
			config(func(m map[string]any) { delete(m, "quantization_config") })(t, dir)
			for _, name := range declaration.Files {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
			}
			r := examine(t, dir, Options{})
			assert.False(t, r.OK, r.Text())
			for _, v := range r.Engines {
				assert.NotEqual(t, engine.Loads, v.Answer, r.Text())
			}
		})
	}
}
