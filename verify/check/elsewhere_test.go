package check

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/safetensors"
)

func init() { mutations = append(mutations, elsewhereMutations...) }

// become moves a shard to another name in the folder.
func become(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		from := shard(t, dir)
		to := filepath.Join(dir, name)
		if name[len(name)-1] == '/' {
			require.NoError(t, os.MkdirAll(to, 0o755))
			to = filepath.Join(to, filepath.Base(from))
		}
		require.NoError(t, os.Rename(from, to))
	}
}

var elsewhereMutations = []mutation{
	{"a shard whose download stopped", plain5, become("model-00001-of-00002.safetensors.incomplete"), "file-elsewhere", "model-00001", true, map[string]string{"vllm": "refuses"}},
	{"a shard that a browser was fetching", plain5, become("model-00001-of-00002.safetensors.crdownload"), "file-elsewhere", "model-00001", true, nil},
	{"a shard in a folder below", plain5, become("weights/"), "file-elsewhere", "model-00001", true, nil},
	{"a shard in capitals", plain5, become("MODEL-00001-of-00002.safetensors"), "file-elsewhere", "model-00001", true, nil},
	{"a matrix of one value", plain5, tensors(one(named("model.layers.1.self_attn.o_proj.weight"), func(x tensor) []tensor {
		for i := 2; i < len(x.data); i++ {
			x.data[i] = x.data[i%2]
		}
		return []tensor{x}
	})), "weight-constant", "o_proj", true, silentAll},
	{"an expert's gate with another scale of its input", "foreign/modelopt-nvfp4",
		tensors(one(named("model.layers.1.mlp.experts.2.gate_proj.input_scale"), put(0.0123))), "input-scale-unshared", "layers.1.mlp.experts.2", true, nil},
	{"MTP head missing for Ascend", int4Asc, tensors(one(named("model.layers.3.shared_head.head.weight"), drop)), "mtp-copy-missing", "shared_head", true,
		map[string]string{"vllm-ascend": "differs", "sglang": "loads"}},
}

// TestUnjudgedDeclarations: a part of a declaration that changes what every
// weight means is no ground for "loads".
func TestUnjudgedDeclarations(t *testing.T) {
	for key, value := range map[string]any{
		"sparsity_config":  map[string]any{"format": "sparse-24-bitmask", "targets": []any{"Linear"}},
		"transform_config": map[string]any{"config_groups": map[string]any{"u": map[string]any{"type": "hadamard", "apply": []any{}}}},
	} {
		dir := good(t, int8CT)
		quantConfig(func(q map[string]any) { q[key] = value })(t, dir)
		r := examine(t, dir, Options{})
		assert.Nil(t, r.Verdict, r.Text())
		for _, v := range r.Engines {
			assert.NotEqual(t, "loads", string(v.Answer), r.Text())
			assert.Contains(t, v.Rule, key)
		}
	}
}

// TestOneFaultOneFinding: what only follows from a fault is not said beside it.
func TestOneFaultOneFinding(t *testing.T) {
	for name, c := range map[string]struct {
		base   string
		damage func(*testing.T, string)
		codes  []string
		says   string
	}{
		"NaN in the head that the MTP layer has a copy of": {"nano-glm4moe", tensors(one(named("lm_head.weight"), func(x tensor) []tensor {
			binary.LittleEndian.PutUint16(x.data[500:], 0x7fc0)
			return []tensor{x}
		})), []string{"weight-nonfinite"}, "cause  lm_head.weight"},
		"a hole in the embedding":   {"nano-glm4moe", tensors(one(named("model.embed_tokens.weight"), zeroed(0.2, 0.6))), []string{"zero-region"}, "model.embed_tokens.weight"},
		"a shard in a folder below": {"nano-glm4moe", become("weights/"), []string{"file-elsewhere"}, "lies in the folder weights"},
		"an index of files in another folder": {"nano-glm4moe", func(t *testing.T, dir string) {
			edit(t, dir, safetensors.IndexName, func(m map[string]any) {
				for k, v := range m["weight_map"].(map[string]any) {
					m["weight_map"].(map[string]any)[k] = "weights/" + v.(string)
				}
			})
		}, []string{"index-invalid"}, "lies in another directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, c.base)
			c.damage(t, dir)
			r := examine(t, dir, Options{Weights: true})
			require.False(t, r.OK)
			var codes []string
			for _, f := range r.Findings {
				if f.Severity == Error && (len(codes) == 0 || codes[len(codes)-1] != f.Code) {
					codes = append(codes, f.Code)
				}
			}
			assert.Equal(t, c.codes, codes, r.Text())
			assert.Contains(t, r.Text(), c.says)
			assert.NotContains(t, r.Text(), "statat")
		})
	}
}

// TestRepeatedFile: a file that only repeats listed tensors is to be deleted,
// not listed.
func TestRepeatedFile(t *testing.T) {
	dir := good(t, plain5)
	raw, err := os.ReadFile(shard(t, dir))
	require.NoError(t, err)
	write(t, filepath.Join(dir, "model.safetensors"), raw)
	r := examine(t, dir, Options{})
	require.True(t, r.Has("shard-unlisted"), r.Text())
	assert.Contains(t, r.Text(), "hint: delete it: every tensor in it is in a listed file too")
	assert.NotContains(t, r.Text(), "list it in the index")
}
