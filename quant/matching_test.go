package quant

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/engine"
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

// TestW4A8BesideOthers: which release of which engine loads the forms of w4a8 as
// compressed-tensors, the way out that plans name, and that what loads resolves
// to what is stored, at the module lists of published models.
func TestW4A8BesideOthers(t *testing.T) {
	old, last, newest := "0.18", "0.26", "0.30"
	for _, tc := range []struct {
		name   string
		o      Options
		loads  []string // releases of vllm-ascend among those three
		says   string   // in the notes
		copies bool     // of embedding and head, for the draft
	}{
		{"as ever", Options{}, nil, "vllm-ascend 0.30 with --rest int8 --group-size channel", false},
		{"a channel", Options{GroupSize: layout.PerChannel}, nil, "with --rest int8: ", false},
		{"int8", Options{Rest: layout.RestInt8}, []string{old, last}, "with --group-size channel: ", true},
		{"int8, a channel", Options{Rest: layout.RestInt8, GroupSize: layout.PerChannel}, []string{old, last, newest}, "", true},
		{"int8, a channel, MTP too", Options{Rest: layout.RestInt8, GroupSize: layout.PerChannel, MTP: layout.MTPQuantize}, []string{old, last, newest}, "", true},
		{"full precision, groups of 32", Options{Rest: layout.RestFloat, GroupSize: 32}, []string{old, last}, "with --group-size channel: ", true},
		{"full precision, a channel", Options{Rest: layout.RestFloat, GroupSize: layout.PerChannel}, []string{old, last, newest}, "", true},
	} {
		for _, name := range []string{"glm-4.5-air", "glm-4.7-flash", "glm-5"} {
			t.Run(name+"/"+tc.name, func(t *testing.T) {
				headers, err := synth.NewPlan(synth.Options{Preset: name, Sparse: true, Experts: 12})
				require.NoError(t, err)
				p, err := newPlan(headers.Config, &layout.View{Tensors: headers.Infos()}, W4A8, layout.CompressedTensors, tc.o)
				require.NoError(t, err)
				assert.Equal(t, tc.copies, p.CopiesForMTP())
				if notes := strings.Join(p.Notes, "\n"); tc.says == "" {
					assert.NotContains(t, notes, "no engine's newest release")
				} else {
					assert.Contains(t, notes, tc.says)
				}
				for _, release := range []string{old, last, newest} {
					r, err := engine.Find("vllm-ascend@" + release)
					require.NoError(t, err)
					loads, drafts := engine.LoadsAt(&p.asked, r)
					assert.Equal(t, slices.Contains(tc.loads, release), loads, release)
					assert.Equal(t, loads, drafts, release)
				}
				bad, err := p.VerifyMatching()
				require.NoError(t, err)
				assert.Empty(t, bad)
			})
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
