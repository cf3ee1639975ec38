package check

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/safetensors"
)

// TestMisfitStacks: stacked experts of another shape or name are not lost.
func TestMisfitStacks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(x tensor) tensor
		says   string
	}{
		"transposed": {inStack("gate_up_proj", func(x *tensor) { x.Shape = []int64{x.Shape[0], x.Shape[2], x.Shape[1]} }), "its matrices are transposed"},
		"an expert less": {inStack("down_proj", func(x *tensor) {
			x.data = x.data[:len(x.data)/8*7]
			x.Shape = []int64{7, x.Shape[1], x.Shape[2]}
		}), "it is [7 "},
		"named as a module's weight": {inStack("gate_up_proj", func(x *tensor) { x.Name += ".weight" }), "take .weight from the end of the name"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, "nano-glm4moe")
			stacked(c.change)(t, dir)
			r := examine(t, dir, Options{})
			assert.False(t, r.OK)
			assert.Contains(t, r.Text(), c.says)
			assert.False(t, r.Has("tensor-missing"), r.Text())
		})
	}
}

// TestDescriptionThatIsNoObject is named as what it is, by check and inspect.
func TestDescriptionThatIsNoObject(t *testing.T) {
	for prefix, says := range map[string]string{"\xef\xbb\xbf": "byte order mark", "\xff\xfe": "not UTF-8", "[": "not a JSON object"} {
		dir := good(t, int4Asc)
		path := filepath.Join(dir, "quant_model_description.json")
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		write(t, path, append([]byte(prefix), raw...))
		assert.Contains(t, examine(t, dir, Options{NoHashes: true}).Text(), says)
		in, err := Inspect(dir)
		require.NoError(t, err)
		assert.Contains(t, in.Text(), says)
	}
}

// TestUnlistedShardWithWhatIsMissing is not to be deleted.
func TestUnlistedShardWithWhatIsMissing(t *testing.T) {
	dir := good(t, "nano-glm5")
	edit(t, dir, "model.safetensors.index.json", func(m map[string]any) {
		w := m["weight_map"].(map[string]any)
		for k, v := range w {
			if v == "model-00002-of-00002.safetensors" {
				delete(w, k)
			}
		}
	})
	text := examine(t, dir, Options{}).Text()
	assert.Contains(t, text, "glmconv repair lists it")
	assert.NotContains(t, text, "delete it")
}

// TestExpertsOfMixtral: experts under another library's names are not lost.
func TestExpertsOfMixtral(t *testing.T) {
	names := map[string]string{"gate": "w1", "down": "w2", "up": "w3"}
	of := regexp.MustCompile(`(\.mlp\.experts\.\d+\.)(gate|down|up)_proj\.weight$`)
	dir := good(t, "nano-glm4moe")
	retensor(t, dir, func(x tensor) []tensor {
		if f := of.FindStringSubmatch(x.Name); f != nil {
			x.Name = of.ReplaceAllString(x.Name, f[1]+names[f[2]]+".weight")
		}
		return []tensor{x}
	})
	r := examine(t, dir, Options{})
	assert.Contains(t, r.Cause, "Mixtral")
	assert.False(t, r.Has("tensor-missing"), r.Text())
}

// TestBiasesOfATool: where all linears have biases, those of a tool that writes
// them beside all codes, attention_bias is not belied.
func TestBiasesOfATool(t *testing.T) {
	dir := good(t, "nano-glm4moe")
	retensor(t, dir, func(x tensor) []tensor {
		m := regexp.MustCompile(`^(.*self_attn\.o_proj)\.weight$`).FindStringSubmatch(x.Name)
		if m == nil {
			return []tensor{x}
		}
		return []tensor{x, {safetensors.Spec{Name: m[1] + ".bias", DType: x.DType, Shape: x.Shape[:1]}, make([]byte, 2*x.Shape[0])}}
	})
	config(func(m map[string]any) { m["attention_bias"] = false })(t, dir)
	assert.False(t, examine(t, dir, Options{}).Has("config-key-wrong"))
}

// TestHalfOfTheCacheScales: scales of keys without those of values.
func TestHalfOfTheCacheScales(t *testing.T) {
	for _, names := range [][]string{{"k_scale"}, {"k_scale", "v_scale"}} {
		dir := good(t, fp8CT)
		retensor(t, dir, func(x tensor) []tensor {
			m := regexp.MustCompile(`^(.*self_attn\.)o_proj\.weight$`).FindStringSubmatch(x.Name)
			out := []tensor{x}
			for _, n := range names {
				if m != nil {
					out = append(out, tensor{safetensors.Spec{Name: m[1] + n, DType: safetensors.F32, Shape: []int64{1}}, []byte{0, 0, 0, 0x3d}})
				}
			}
			return out
		})
		quantConfig(func(q map[string]any) {
			q["kv_cache_scheme"] = map[string]any{"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": false, "symmetric": true}
		})(t, dir)
		assert.Equal(t, len(names) == 1, examine(t, dir, Options{}).Has("kv-scale-missing"))
	}
}

// TestCodesWithoutTheirScale: the tensor that is not there is named, by the
// scheme that the description has for the weight.
func TestCodesWithoutTheirScale(t *testing.T) {
	for name, tc := range map[string]struct{ dir, lost string }{
		"dynamic":   {int8Asc, "model.layers.1.self_attn.o_proj.weight_scale"},
		"fp8 block": {"sources/nano-glm5-fp8", "model.layers.1.self_attn.o_proj.weight_scale_inv"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, tc.dir)
			retensor(t, dir, func(x tensor) []tensor {
				if x.Name == tc.lost || x.Name == "model.layers.1.self_attn.o_proj.weight_offset" {
					return nil
				}
				return []tensor{x}
			})
			r := examine(t, dir, Options{NoHashes: true})
			assert.False(t, r.OK)
			assert.Contains(t, r.Text(), tc.lost+" is not there")
		})
	}
}

// TestInspectUndeclared: codes of which no file says what they are are no model
// in full precision.
func TestInspectUndeclared(t *testing.T) {
	for dir, lost := range map[string]string{int8Asc: "quant_model_description.json is not there", fp8CT: "config.json has no quantization_config"} {
		d := good(t, dir)
		require.NoError(t, os.RemoveAll(filepath.Join(d, "quant_model_description.json")))
		config(func(m map[string]any) { delete(m, "quantization_config") })(t, d)
		in, err := Inspect(d)
		require.NoError(t, err)
		assert.Contains(t, in.Text(), lost)
	}
}

// TestDeclaredCachesDiffer: two files that agree on the weights and not on the
// key-value cache are named.
func TestDeclaredCachesDiffer(t *testing.T) {
	dir := good(t, "foreign/modelopt-nvfp4")
	require.False(t, examine(t, dir, Options{}).Has("quant-config-differs"))
	edit(t, dir, "hf_quant_config.json", func(m map[string]any) { m["quantization"].(map[string]any)["kv_cache_quant_algo"] = "FP8" })
	r := examine(t, dir, Options{})
	require.True(t, r.Has("quant-config-differs"), r.Text())
	assert.Contains(t, r.Text(), "it has a key-value cache of ")
}

// TestNoEngineLoads: a form that one engine misreads and no other is judged for
// is not called good.
func TestNoEngineLoads(t *testing.T) {
	dir := good(t, "nano-glm4moe-quantized/NVFP4A16")
	quantConfig(func(q map[string]any) {
		q["format"] = "mxfp6-pack-quantized"
		for _, g := range q["config_groups"].(map[string]any) {
			g.(map[string]any)["format"] = "mxfp6-pack-quantized"
		}
	})(t, dir)
	r := examine(t, dir, Options{})
	assert.Nil(t, r.Verdict, r.Text())
}
