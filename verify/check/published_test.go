package check

import (
	"os"
	"path/filepath"
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
		{"foreign/autoround-gptq", "auto-round (gptq) int4 group 32", []string{"eh-proj-quantized", "quant-method-published"}, "eh_proj", true,
			map[string]string{"vllm": "refuses", "sglang": "refuses"}},
		// block_name_to_quantize means the draft's head too, which has no codes: vLLM's own loader stops with a KeyError
		{"foreign/autoround-mxfp4", "auto-round (compressed-tensors) mxfp4 group 32", []string{"engine-refuses", "engine-misreads"}, "model.layers.3.head", true,
			map[string]string{"vllm": "refuses", "sglang": "refuses"}},
		{"foreign/awq", "awq int4 group 32", []string{"weight-not-quantized", "bias-cast"}, "MTP layer is full precision", true,
			map[string]string{"vllm": "refuses", "sglang": "refuses"}},
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
