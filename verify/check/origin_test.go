package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/safetensors"
)

func init() { mutations = append(mutations, originMutations...) }

// rename gives every tensor another name.
func rename(fn func(name string) string) func(*testing.T, string) {
	return tensors(func(x tensor) []tensor { x.Name = fn(x.Name); return []tensor{x} })
}

func prefixed(p string) func(*testing.T, string) {
	return rename(func(n string) string { return p + n })
}

func beside(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { write(t, filepath.Join(dir, name), []byte(text)) }
}

const plain5 = "nano-glm5"

var originMutations = []mutation{
	{"names of PEFT", plain5, prefixed("base_model.model."), "foreign-names", "base_model.model.", true, map[string]string{"vllm": "refuses"}},
	{"names of torch.compile", plain5, prefixed("_orig_mod."), "foreign-names", "_orig_mod.", true, nil},
	{"names of DDP", plain5, prefixed("module."), "foreign-names", "module.", true, nil},
	{"names under a prefix of nobody", plain5, prefixed("thinker."), "foreign-names", "thinker.", true, nil},
	{"names of FSDP in the middle", plain5, rename(func(n string) string {
		return strings.Replace(n, "self_attn.", "_fsdp_wrapped_module.self_attn.", 1)
	}), "foreign-names", "_fsdp_wrapped_module", true, nil},
	{"names without model.", plain5, rename(func(n string) string { return strings.TrimPrefix(n, "model.") }), "foreign-names", "", true, nil},
	{"q and k and v in one tensor", "nano-glm4moe", tensors(one(ending("layers.1.self_attn.q_proj.weight"), func(x tensor) []tensor {
		x.Name = strings.Replace(x.Name, "q_proj", "qkv_proj", 1)
		return []tensor{x}
	})), "foreign-names", "qkv_proj", true, nil},
	{"an adapter beside the model", plain5, beside("adapter_config.json", "{}"), "manifest-missing", "", false, nil},
	{"an adapter's weights beside the model", plain5, func(t *testing.T, dir string) {
		patch(t, shard(t, dir), func(b []byte) []byte {
			write(t, filepath.Join(dir, "adapter_model.safetensors"), b)
			return b
		})
	}, "adapter-file", "adapter_model", false, nil},
	{"pickles alone", plain5, func(t *testing.T, dir string) {
		for _, pattern := range []string{"*.safetensors", "*.index.json"} {
			list, err := filepath.Glob(filepath.Join(dir, pattern))
			require.NoError(t, err)
			for _, f := range list {
				require.NoError(t, os.Remove(f))
			}
		}
		write(t, filepath.Join(dir, "pytorch_model-00001-of-00002.bin"), []byte("PK\x03\x04"))
	}, "not-safetensors", "pytorch_model", true, nil},
	{"LFS pointer of a shard", plain5, func(t *testing.T, dir string) {
		write(t, shard(t, dir), []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"))
	}, "lfs-pointer", "model-00001", true, map[string]string{"vllm": "refuses"}},
	{"LFS pointer of the tokenizer", plain5, beside("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
		"lfs-pointer", "tokenizer.json", true, nil},
	{"control file of aria2", plain5, beside("model-00002-of-00002.safetensors.aria2", "\x00\x01"), "download-leftover", "aria2", false, nil},
	{"part file of a download", plain5, beside("x.incomplete", ""), "download-leftover", "incomplete", false, nil},
	{"listed file beside the folder", plain5, func(t *testing.T, dir string) {
		edit(t, dir, safetensors.IndexName, func(m map[string]any) {
			m["weight_map"].(map[string]any)["model.layers.3.embed_tokens.weight"] = "mtp-others.safetensors"
		})
		write(t, dir+"mtp-others.safetensors", []byte("x"))
	}, "file-beside-folder", "mtp-others", true, nil},
	{"MTP layer that was not pruned", "nano-glm4moe", func(t *testing.T, dir string) {
		tensors(func(x tensor) []tensor {
			if strings.Contains(x.Name, "layers.3.") {
				return []tensor{x}
			}
			if strings.Contains(x.Name, ".experts.7.") {
				return nil
			}
			if strings.Contains(x.Name, ".mlp.gate.") {
				return shorter(x)
			}
			return []tensor{x}
		})(t, dir)
		edit(t, dir, "config.json", func(m map[string]any) { m["n_routed_experts"] = 7 })
	}, "mtp-shape", "layers.3.mlp.gate", true, nil},
	{"experts pruned without a word", "nano-glm4moe", tensors(func(x tensor) []tensor {
		if strings.Contains(x.Name, ".experts.7.") {
			return nil
		}
		if strings.Contains(x.Name, ".mlp.gate.") {
			return shorter(x)
		}
		return []tensor{x}
	}), "expert-count", "n_routed_experts", true, nil},
	{"MTP layer counted", "nano-glm4moe", func(t *testing.T, dir string) {
		edit(t, dir, "config.json", func(m map[string]any) { m["num_hidden_layers"], m["num_nextn_predict_layers"] = 4, 0 })
	}, "layer-count", "num_hidden_layers", true, nil},
	{"layers cut off without a word", "nano-glm4moe", func(t *testing.T, dir string) {
		edit(t, dir, "config.json", func(m map[string]any) { m["num_hidden_layers"] = 2 })
	}, "layer-count", "num_hidden_layers", true, nil},
	{"vocabulary resized without a word", "nano-glm4moe", func(t *testing.T, dir string) {
		edit(t, dir, "config.json", func(m map[string]any) { m["vocab_size"] = 1096 })
	}, "vocabulary", "vocab_size", true, nil},
	{"head resized alone", "nano-glm4moe", tensors(one(named("lm_head.weight"), shorter)), "vocabulary", "lm_head", true, nil},
	{"MTP copies of the old vocabulary", "nano-glm4moe", tensors(one(containing("layers.3.embed_tokens"), shorter)), "mtp-copy-stale", "embed_tokens", true, nil},
	{"quantization_config of BF16 weights", plain5, func(t *testing.T, dir string) {
		edit(t, dir, "config.json", func(m map[string]any) {
			m["quantization_config"] = map[string]any{"quant_method": "fp8", "weight_block_size": []int{128, 128}}
		})
	}, "stale-quantization", "quantization_config", true, nil},
	{"two rope bases", "nano-glm4moe", func(t *testing.T, dir string) {
		edit(t, dir, "config.json", func(m map[string]any) {
			m["rope_theta"], m["rope_parameters"] = 10000, map[string]any{"rope_type": "default", "rope_theta": 1000000, "partial_rotary_factor": 0.5}
		})
	}, "rope-two-bases", "rope_theta", true, nil},
}

// One fault, one finding: what only follows from it is not said again.
func TestConsequencesAreLeftOut(t *testing.T) {
	for _, m := range []struct {
		name, base string
		damage     func(*testing.T, string)
	}{
		{"foreign names", plain5, prefixed("_orig_mod.")},
		{"a shard cut short", int4Asc, func(t *testing.T, dir string) {
			patch(t, shard(t, dir), func(b []byte) []byte { return b[:len(b)-4096] })
			_ = os.Remove(filepath.Join(dir, "glmconv-manifest.json"))
		}},
		{"MTP layer counted", "nano-glm4moe", func(t *testing.T, dir string) {
			edit(t, dir, "config.json", func(m map[string]any) { m["num_hidden_layers"], m["num_nextn_predict_layers"] = 4, 0 })
		}},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := good(t, m.base)
			m.damage(t, dir)
			r := examine(t, dir, Options{})
			errs := 0
			for _, f := range r.Findings {
				if f.Severity == Error {
					errs++
				}
			}
			assert.Equal(t, 1, errs, "%s", r.Text())
		})
	}
}

// Of two equal names in two files the one that the index names counts, and the
// index is not blamed.
func TestDuplicateIsOneFinding(t *testing.T) {
	dir := good(t, "nano-glm4moe")
	list, err := filepath.Glob(filepath.Join(dir, "model-*.safetensors"))
	require.NoError(t, err)
	require.Len(t, list, 2)
	second, err := os.ReadFile(list[1])
	require.NoError(t, err)
	write(t, filepath.Join(dir, "model-00000-of-00002.safetensors"), second)
	edit(t, dir, safetensors.IndexName, func(m map[string]any) {
		w := m["weight_map"].(map[string]any)
		w["lm_head.weight"] = "model-00000-of-00002.safetensors"
	})
	r := examine(t, dir, Options{})
	assert.True(t, r.Has("duplicate-tensor"), r.Text())
	assert.False(t, r.Has("index-tensor-missing"), r.Text())
	assert.Contains(t, r.Text(), "both copies are equal")
}
