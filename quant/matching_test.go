package quant

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// What we write resolves in every engine that can read it to what is stored,
// for every module of trunk and draft.
func TestEnginesResolveWhatIsStored(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "tiny-glm4moe", "nano-glm5", "nano-glm52", "nano-glm45v"} {
		src, err := safetensors.OpenDir(testkit.Shared(t, "reference/"+model))
		require.NoError(t, err)
		defer src.Close()
		for _, s := range layout.Schemes {
			for _, f := range layout.Formats {
				for _, mtp := range []layout.MTPMode{"", layout.MTPQuantize, layout.MTPFloat} {
					if layout.Supported(s, f) != nil || s == layout.BF16 || s == W4A8FP8 {
						continue
					}
					p, err := NewPlan(src, s, f, Options{MTP: mtp})
					require.NoError(t, err)
					bad, err := p.VerifyMatching()
					require.NoError(t, err)
					assert.Empty(t, bad, "%s %s %s --mtp %q", model, s, f, mtp)
				}
			}
		}
	}
}

// TestPublishedModelsResolve: the same for the module lists of the published
// models, whole: every scheme and layout, MTP quantised or not.
func TestPublishedModelsResolve(t *testing.T) {
	planned := map[string]int{}
	for _, name := range []string{"glm-4.5-air", "glm-4.5", "glm-4.5v", "glm-4.7-flash", "glm-5", "glm-5.2"} {
		headers, err := synth.NewPlan(synth.Options{Preset: name, Sparse: true, Experts: 12}) // all experts of a layer are alike
		require.NoError(t, err)
		for _, s := range layout.Schemes {
			for _, f := range layout.Formats {
				for _, mtp := range []layout.MTPMode{"", layout.MTPQuantize, layout.MTPFloat} {
					if layout.Supported(s, f) != nil || s == layout.BF16 {
						continue
					}
					what := fmt.Sprintf("%s %s %s --mtp %q", name, s, f, mtp)
					p, err := newPlan(headers.Config, &layout.View{Tensors: headers.Infos()}, s, f, Options{MTP: mtp})
					var impossible *layout.ImpossibleError
					if errors.As(err, &impossible) {
						t.Logf("%s: %s", what, impossible.Rule)
						continue
					}
					require.NoError(t, err, what)
					bad, err := p.VerifyMatching()
					require.NoError(t, err)
					assert.Empty(t, bad, what)
					planned[name]++
				}
			}
		}
		assert.GreaterOrEqual(t, planned[name], 8*3-3, name)
	}
}
