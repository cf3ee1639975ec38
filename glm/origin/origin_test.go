package origin_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/safetensors"
)

// subject is a folder of the given preset, whole and under the right names.
func subject(t *testing.T, preset string) *origin.Subject {
	t.Helper()
	cfg, err := glm.Preset(preset)
	require.NoError(t, err)
	s := &origin.Subject{Dir: t.TempDir(), Config: cfg, Files: []string{"config.json", "model-00001-of-00001.safetensors"}}
	require.NoError(t, json.Unmarshal(cfg.Raw, &s.Keys))
	for _, r := range cfg.Table() {
		s.Tensors = append(s.Tensors, safetensors.Info{Name: r.Name, DType: r.DType, Shape: r.Shape, Size: safetensors.DataSize(r.DType, r.Shape)})
	}
	return s
}

func TestWholeFoldersSayNothing(t *testing.T) {
	for _, p := range glm.Presets() {
		s := subject(t, p)
		if s.Config.Quantization != "" {
			continue // a preset of an FP8 release, with BF16 tensors made here
		}
		assert.Empty(t, origin.Of(s), p)
	}
}

func TestNames(t *testing.T) {
	for name, c := range map[string]struct {
		preset string
		change func(n string) string
		want   string
	}{
		"PEFT":             {"glm-4.5-air", func(n string) string { return "base_model.model." + n }, "PEFT"},
		"PEFT, base_layer": {"glm-4.5-air", func(n string) string { return strings.Replace(n, "o_proj.", "o_proj.base_layer.", 1) }, "PEFT"},
		"compiled":         {"glm-5", func(n string) string { return "_orig_mod." + n }, "torch.compile"},
		"compiled twice":   {"glm-5", func(n string) string { return "module._orig_mod." + n }, "_orig_mod."},
		"compiled layers":  {"glm-5", func(n string) string { return strings.Replace(n, ".self_attn.", "._orig_mod.self_attn.", 1) }, "torch.compile"},
		"any prefix":       {"glm-4.7", func(n string) string { return "policy.net." + n }, "policy.net."},
		"vision order": {"glm-4.5v", func(n string) string {
			if r, ok := strings.CutPrefix(n, "model.language_model."); ok {
				return "language_model.model." + r
			}
			return strings.TrimPrefix(n, "model.")
		}, "language_model.model."},
		"Mixtral's experts":      {"glm-5", func(n string) string { return strings.Replace(n, ".mlp.experts.", ".block_sparse_moe.experts.", 1) }, `"block_sparse_moe" instead of "mlp"`},
		"an MTP layer by itself": {"glm-4.5-air", func(n string) string { return strings.Replace(n, "model.layers.46.", "mtp.layers.0.", 1) }, `"mtp.layers.0" instead of "model.layers.46"`},
		"attention":              {"glm-4.7-flash", func(n string) string { return strings.Replace(n, ".self_attn.", ".attention.", 1) }, `"attention" instead of "self_attn"`},
		"a part left out":        {"glm-4.7", func(n string) string { return strings.Replace(n, ".shared_experts.", ".shared_experts.mlp.", 1) }, `"mlp" instead of nothing`},
		"megatron":               {"glm-4.7", func(n string) string { return strings.Replace(n, "model.layers.", "decoder.layers.", 1) }, "Megatron"},
	} {
		t.Run(name, func(t *testing.T) {
			s := subject(t, c.preset)
			for i := range s.Tensors {
				s.Tensors[i].Name = c.change(s.Tensors[i].Name)
			}
			found := origin.Of(s)
			require.NotEmpty(t, found)
			assert.Equal(t, origin.ForeignNames, found[0].Kind)
			assert.True(t, found[0].Blocks)
			assert.Contains(t, found[0].Detail, c.want)
			assert.NotEmpty(t, found[0].Hint())
			for _, f := range found {
				assert.NotEqual(t, origin.MTPAbsent, f.Kind, "names hide the layer, it is not absent")
			}
		})
	}
}

// TestNamesAndHoles: beside tensors of other names some are really missing.
func TestNamesAndHoles(t *testing.T) {
	s := subject(t, "glm-5")
	s.Tensors = slices.DeleteFunc(s.Tensors, func(x safetensors.Info) bool { return strings.Contains(x.Name, "layers.7.mlp.experts.") })
	for i := range s.Tensors {
		s.Tensors[i].Name = strings.Replace(s.Tensors[i].Name, ".mlp.experts.", ".block_sparse_moe.experts.", 1)
	}
	found := origin.Of(s)
	require.NotEmpty(t, found)
	assert.Equal(t, origin.ForeignNames, found[0].Kind)
	assert.Regexp(t, `beside them \d+ tensors are missing`, found[0].Detail)
}

func TestUnmergedLora(t *testing.T) {
	s := subject(t, "glm-4.5-air")
	s.Tensors = append(s.Tensors, safetensors.Info{Name: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"})
	found := origin.Of(s)
	require.NotEmpty(t, found)
	assert.Contains(t, found[0].Detail, "LoRA")
}

// TestLayersCut: the last layers are not stored and nothing else is missing.
func TestLayersCut(t *testing.T) {
	for _, preset := range []string{"glm-4.5v", "glm-5", "glm-4.7-flash"} {
		t.Run(preset, func(t *testing.T) {
			s := subject(t, preset)
			prefix := map[bool]string{true: "model.language_model.layers.", false: "model.layers."}[preset == "glm-4.5v"]
			s.Tensors = slices.DeleteFunc(s.Tensors, func(in safetensors.Info) bool {
				rest, ok := strings.CutPrefix(in.Name, prefix)
				n, _, _ := strings.Cut(rest, ".")
				i, err := strconv.Atoi(n)
				return ok && err == nil && i >= 10
			})
			found := origin.Of(s)
			require.NotEmpty(t, found)
			assert.Equal(t, origin.LayerCount, found[0].Kind)
			assert.Contains(t, found[0].Detail, "decoder layers 0 to 9 are stored")
			assert.Contains(t, found[0].Hint(), "set num_hidden_layers to 10")

			s.Tensors = slices.DeleteFunc(s.Tensors, func(in safetensors.Info) bool {
				return strings.HasSuffix(in.Name, "model.norm.weight") || in.Name == "model.language_model.norm.weight"
			})
			for _, f := range origin.Of(s) {
				assert.NotEqual(t, origin.LayerCount, f.Kind, "without the final norm files are missing")
			}
		})
	}
}

func TestMTPAbsent(t *testing.T) {
	s := subject(t, "glm-4.5-air")
	prefix := s.Config.LayerPrefix(s.Config.Layers)
	kept := s.Tensors[:0]
	for _, x := range s.Tensors {
		if !strings.HasPrefix(x.Name, prefix) {
			kept = append(kept, x)
		}
	}
	s.Tensors = kept
	found := origin.Of(s)
	require.Len(t, found, 1)
	assert.Equal(t, origin.MTPAbsent, found[0].Kind)
	assert.False(t, found[0].Blocks, "it can be converted without the layer")
	for _, way := range []string{"without it", "repair", "num_nextn_predict_layers 0"} {
		assert.Contains(t, found[0].Way, way)
	}
}

func TestNotCopied(t *testing.T) {
	for name, kept := range map[string]bool{
		"tokenizer.json": true, "chat_template.jinja": true, "README.md": true, "training_args.bin": true, "tokenizer.model": true,
		"a.safetensors.aria2": false, "model.safetensors.incomplete": false, "model-00002-of-00002.safetensors.tmp": false, "model.safetensors.1": false,
		"model.safetensors.bak": false, "model.safetensors.index.json": true, "tokenizer.json.filepart": false, "adapter_config.json": false,
		"pytorch_model-00001-of-00002.bin": false, "pytorch_model.bin.index.json": false, "model-Q4_K.gguf": false,
	} {
		assert.Equal(t, kept, origin.NotCopied(name) == "", name)
	}
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	cause := errors.New("has no *.safetensors file")
	assert.Equal(t, cause, origin.Explain(dir, cause), "nothing to say")
	assert.Equal(t, cause, origin.Explain(filepath.Join(dir, "absent"), cause))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pytorch_model.bin"), []byte("PK"), 0o600))
	var f *origin.Finding
	require.ErrorAs(t, origin.Explain(dir, cause), &f)
	assert.Equal(t, origin.Pickle, f.Kind)
	assert.Contains(t, f.Error(), "pytorch_model.bin")
}

// TestElsewhere: a listed file that is there under a name which a tool gave it.
func TestElsewhere(t *testing.T) {
	for name, want := range map[string]string{
		"model-00001-of-00002.safetensors.safetensors": "rename", "model-00001-of-00002 (1).safetensors": "rename",
		"model-00001-of-00002": "rename", "._____temp/model-00001-of-00002.safetensors": "finish the download",
	} {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		s := &origin.Subject{Dir: dir, Files: []string{filepath.Base(name)}, Listed: map[string]bool{"model-00001-of-00002.safetensors": true}}
		if strings.Contains(name, "/") {
			s.Files = nil
		}
		found := origin.Of(s)
		require.NotEmpty(t, found, name)
		assert.Equal(t, origin.Elsewhere, found[0].Kind, name)
		assert.Contains(t, found[0].Way, want, name)
	}
}
