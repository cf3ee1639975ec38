package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// converted quantises a reference checkpoint and returns the result's directory.
func converted(t testing.TB, model string, scheme quant.Scheme, format quant.Format, o quant.Options) string {
	t.Helper()
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/"+model))
	require.NoError(t, err)
	defer src.Close()
	plan, err := quant.NewPlan(src, scheme, format, o)
	var impossible *layout.ImpossibleError
	if errors.As(err, &impossible) {
		t.Skip(err)
	}
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "result")
	_, err = convert.Run(context.Background(), plan, src, dst, convert.Options{Workers: 2, Version: "test"})
	require.NoError(t, err)
	return dst
}

// someInputs are the largest inputs of nano-glm4moe's experts.
func someInputs(of func(expert int) float32) *quant.Inputs {
	in := &quant.Inputs{Source: "a test", AbsMax: map[string]float32{}}
	for l := range 4 {
		for e := range 8 {
			for _, p := range []string{"gate", "up", "down"} {
				in.AbsMax[fmt.Sprintf("model.layers.%d.mlp.experts.%d.%s_proj", l, e, p)] = of(e)
			}
		}
	}
	return in
}

// TestInputScales: the scales of NVFP4's inputs are those of the largest
// magnitudes that the manifest has, whatever hashes it has now.
func TestInputScales(t *testing.T) {
	for _, format := range []quant.Format{layout.CompressedTensors, layout.ModelOpt} {
		t.Run(string(format), func(t *testing.T) {
			dir := converted(t, "nano-glm4moe", layout.NVFP4, format, quant.Options{Inputs: someInputs(func(e int) float32 { return 3 + float32(e)/7 })})
			require.False(t, examine(t, dir, Options{NoHashes: true}).Has("input-scale-changed"))
			manifest, err := os.ReadFile(filepath.Join(dir, quant.ManifestName))
			require.NoError(t, err)
			tensors(func(x tensor) []tensor {
				if strings.HasSuffix(x.Name, "input_scale") || strings.HasSuffix(x.Name, "input_global_scale") {
					v := math.Float32frombits(binary.LittleEndian.Uint32(x.data))
					binary.LittleEndian.PutUint32(x.data, math.Float32bits(v*1.05))
				}
				return []tensor{x}
			})(t, dir)
			require.NoError(t, os.WriteFile(filepath.Join(dir, quant.ManifestName), manifest, 0o600))
			r := examine(t, dir, Options{NoHashes: true})
			assert.True(t, r.Has("input-scale-changed"), r.Text())
			assert.False(t, r.OK)
		})
	}
}

// TestManifestScheme: activations leave no trace in the tensors; the manifest
// says what they are, and whichever of the two is changed, they differ.
func TestManifestScheme(t *testing.T) {
	inputs := someInputs(func(int) float32 { return 4 })
	for scheme, other := range map[quant.Scheme]quant.Scheme{
		quant.W8A8: quant.W4A16, quant.FP8: quant.W8A8, quant.FP8Block: quant.FP8, quant.W4A8: quant.W4A16, quant.W4A16: quant.W4A8,
		layout.NVFP4: layout.NVFP4A16, layout.MXFP4: layout.MXFP4A16, layout.MXFP8: layout.MXFP8A16,
		layout.NVFP4A16: layout.NVFP4, layout.MXFP4A16: layout.MXFP4, layout.MXFP8A16: layout.MXFP8, layout.Int4Int8: quant.W8A8,
	} {
		t.Run(string(scheme), func(t *testing.T) {
			t.Parallel()
			o := quant.Options{}
			if scheme.Calibrated() {
				o.Inputs = inputs
			}
			dir := converted(t, "nano-glm4moe", scheme, layout.CompressedTensors, o)
			path := filepath.Join(dir, quant.ManifestName)
			manifest, err := os.ReadFile(path)
			require.NoError(t, err)
			require.False(t, examine(t, dir, Options{NoHashes: true}).Has("manifest-scheme"))
			changed := func() {
				r := examine(t, dir, Options{NoHashes: true})
				assert.True(t, r.Has("manifest-scheme"), r.Text())
				assert.False(t, r.OK)
			}
			raw := bytes.Replace(manifest, []byte(`"scheme": "`+string(scheme)+`"`), []byte(`"scheme": "`+string(other)+`"`), 1)
			require.NotEqual(t, manifest, raw)
			require.NoError(t, os.WriteFile(path, raw, 0o600))
			changed()
			quantConfig(func(q map[string]any) {
				for _, g := range q["config_groups"].(map[string]any) {
					g := g.(map[string]any)
					if g["input_activations"] == nil {
						g["input_activations"] = map[string]any{"num_bits": 8, "type": "int", "strategy": "token", "dynamic": true, "symmetric": true}
					} else {
						g["input_activations"] = nil
					}
				}
			})(t, dir)
			require.NoError(t, os.WriteFile(path, manifest, 0o600))
			changed()
		})
	}
}

// TestStaticScales: activations that are declared to have stored scales have
// them, in every form of groups.
func TestStaticScales(t *testing.T) {
	dir := good(t, "nano-glm4moe mxfp8 compressed-tensors")
	quantConfig(func(q map[string]any) {
		for _, g := range q["config_groups"].(map[string]any) {
			g.(map[string]any)["input_activations"].(map[string]any)["dynamic"] = false
		}
	})(t, dir)
	r := examine(t, dir, Options{})
	assert.True(t, r.Has("companion-missing"), r.Text())
	assert.False(t, r.OK)
}

// TestOwnResults: whatever quantize writes is good, with every byte read, and
// the engine it is made for loads it.
func TestOwnResults(t *testing.T) {
	for model, some := range map[string][]quant.Scheme{
		"nano-glm4moe": layout.Schemes, "nano-glm5": layout.Schemes,
		"nano-glm52": {quant.W4A8}, "nano-glm45v": {quant.FP8, quant.W8A8}, "tiny-glm4moe": {quant.W4A16},
	} {
		for _, s := range some {
			for _, f := range layout.Formats {
				if layout.Supported(s, f) != nil || s == layout.BF16 || s.Calibrated() {
					continue
				}
				t.Run(model+"/"+string(s)+"/"+string(f), func(t *testing.T) {
					t.Parallel()
					o := quant.Options{GroupSize: 32}
					if s == quant.W4A8FP8 {
						o.GroupSize = 0
					}
					r := examine(t, converted(t, model, s, f, o), Options{Weights: true})
					assert.True(t, r.OK, "%s", r.Text())
					assert.Positive(t, r.Hashed)
					for _, x := range r.Findings {
						if x.Severity == Warning {
							assert.Equal(t, "engine-refuses", x.Code, "%+v", x)
						}
					}
					home := "vllm"
					if f == layout.Ascend {
						home = "vllm-ascend"
					}
					i := slices.IndexFunc(r.Engines, func(v EngineVerdict) bool { return v.Engine == home })
					require.GreaterOrEqual(t, i, 0)
					if r.Engines[i].Answer != engine.Loads {
						t.Log(r.Engines[i]) // nano widths: 128 is no multiple of 256
					}
					assert.NotEqual(t, engine.Differs, r.Engines[i].Answer)
				})
			}
		}
	}
}

// TestDraftHeadOfModelOpt: vLLM builds the draft's head in codes unless its own
// name for it is excluded, whether or not the source has a copy of the head.
func TestDraftHeadOfModelOpt(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "tiny-glm4moe", "nano-glm5", "nano-glm52"} {
		for _, rest := range []layout.RestMode{"", layout.RestSame} {
			for _, mtp := range []layout.MTPMode{layout.MTPQuantize, layout.MTPAuto} {
				t.Run(fmt.Sprint(model, " ", rest, " ", mtp), func(t *testing.T) {
					dir := converted(t, model, layout.NVFP4A16, layout.ModelOpt, quant.Options{Rest: rest, MTP: mtp})
					r := examine(t, dir, Options{NoHashes: true})
					assert.True(t, r.OK, r.Text())
					assert.Equal(t, "loads", verdicts(r)["vllm"], r.Text())
				})
			}
		}
	}
}

// TestLatentsOfNVFP4: SGLang joins q_a_proj and kv_a_proj_with_mqa and cannot
// join their global scales, so that they stay where everything else is in FP4.
func TestLatentsOfNVFP4(t *testing.T) {
	for _, model := range []string{"nano-glm5", "nano-glm52"} {
		t.Run(model, func(t *testing.T) {
			dir := converted(t, model, layout.NVFP4A16, layout.CompressedTensors, quant.Options{Rest: layout.RestSame})
			r := examine(t, dir, Options{NoHashes: true})
			assert.True(t, r.OK, r.Text())
			assert.Equal(t, map[string]string{"vllm": "loads", "sglang": "loads"}, verdicts(r), r.Text())
			c, err := safetensors.OpenDir(dir)
			require.NoError(t, err)
			defer func() { _ = c.Close() }()
			for _, name := range []string{"q_a_proj.weight", "kv_a_proj_with_mqa.weight", "o_proj.weight_packed"} {
				_, ok := c.Info("model.layers.1.self_attn." + name)
				assert.True(t, ok, name)
			}
		})
	}
}
