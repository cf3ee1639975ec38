package origin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/safetensors"
)

// TestConfigOfAnotherModel: config.json of another release than the weights.
func TestConfigOfAnotherModel(t *testing.T) {
	for name, c := range map[string]struct {
		weights, config string
		kind            origin.Kind
		where, says     string
	}{
		"a text model's, the config of a vision model": {"glm-4.5-air", "glm-4.5v", origin.OtherModel, "model_type", "text model"},
		"a vision model's, the config of a text model": {"glm-4.5v", "glm-4.5-air", origin.OtherModel, "model_type", "vision"},
		"of the small release":                         {"glm-4.5-air", "glm-4.7", origin.ConfigSize, "hidden_size", "4096"},
		"of the large release":                         {"glm-4.7", "glm-4.5-air", origin.ConfigSize, "hidden_size", "5120"},
		"GLM-5's, the config of GLM-5.2":               {"glm-5", "glm-5.2", origin.Indexers, "indexer_types", "borrow"},
		"GLM-5.2's, the config of GLM-5":               {"glm-5.2", "glm-5", origin.Indexers, "indexer_types", "share indexers"},
	} {
		t.Run(name, func(t *testing.T) {
			s := subject(t, c.weights)
			cfg, err := glm.Preset(c.config)
			require.NoError(t, err)
			s.Config = cfg
			found := origin.Of(s)
			require.NotEmpty(t, found)
			assert.Equal(t, c.kind, found[0].Kind, found[0].Error())
			assert.Contains(t, found[0].Where, c.where)
			assert.Contains(t, found[0].Detail, c.says)
			for _, f := range found {
				assert.NotEqual(t, origin.ForeignNames, f.Kind)
			}
		})
	}
}

// TestDamagedFoldersAreNotJudged: what is in a file that cannot be read is not lost.
func TestDamagedFoldersAreNotJudged(t *testing.T) {
	for _, preset := range []string{"glm-4.5-air", "glm-5.2"} {
		s := subject(t, preset)
		prefix := s.Config.LayerPrefix(s.Config.Layers)
		kept := s.Tensors[:0]
		for _, x := range s.Tensors {
			if !strings.HasPrefix(x.Name, prefix) && !strings.Contains(x.Name, "layers.1.self_attn.indexer") {
				kept = append(kept, x)
			}
		}
		s.Tensors = append(kept, safetensors.Info{Name: prefix + "mlp.gate.weight", DType: safetensors.BF16, Shape: []int64{int64(s.Config.Experts), int64(s.Config.HiddenSize)}})
		s.Damaged = true
		s.Config.Quantization = "fp8" // what has codes may be what is lost
		assert.Empty(t, origin.Of(s), preset)
	}
}

// TestNamesOfABrowser: second copies of a listed file, and names that only look like it.
func TestNamesOfABrowser(t *testing.T) {
	s := subject(t, "glm-4.5-air")
	const listed = "model-00001-of-00002.safetensors"
	for name, want := range map[string]bool{
		"model-00001-of-00002 (1).safetensors": true, "model-00001-of-00002(2).safetensors": true, "model-00001-of-00002 - Copy.safetensors": true,
		"model-00001-of-00002_copy.safetensors": true, "model-00001-of-00003.safetensors": false, "model-00001-of-00002 x.safetensors": false,
	} {
		s.Files, s.Listed = []string{"config.json", name}, map[string]bool{listed: true}
		found := origin.Of(s)
		if !want {
			assert.Empty(t, found, name)
			continue
		}
		require.NotEmpty(t, found, name)
		assert.Equal(t, origin.Elsewhere, found[0].Kind, name)
		assert.Contains(t, found[0].Way, "rename "+name)
	}
}

// TestDeclarationsLeftOver: files that declare codes beside full precision; one
// that says FLOAT of every weight is no fault.
func TestDeclarationsLeftOver(t *testing.T) {
	for text, want := range map[string]int{
		`{"model.layers.0.mlp.up_proj.weight": "W8A8_DYNAMIC"}`:                                          1,
		`{"model.layers.0.mlp.up_proj.weight": "FLOAT", "version": "1.0.0", "model_quant_type": "W8A8"}`: 0,
		`{`: 0,
	} {
		s := subject(t, "glm-5")
		s.Config.Quantization = ""
		s.Files = append(s.Files, "quant_model_description.json")
		require.NoError(t, os.WriteFile(filepath.Join(s.Dir, "quant_model_description.json"), []byte(text), 0o600))
		found := origin.Of(s)
		require.Len(t, found, want, text)
		if want == 1 {
			assert.Equal(t, origin.StaleConfig, found[0].Kind)
			assert.Equal(t, "quant_model_description.json", found[0].Where)
		}
	}
}
