package samples

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/check"
)

// whole makes a model of config.json, converts it, judges the result and runs
// it: what a change is good for that works in all parts.
func whole(t *testing.T, config []byte, scheme quant.Scheme, format quant.Format, o func(*safetensors.Checkpoint) quant.Options) *check.Report {
	t.Helper()
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	p, err := synth.NewPlan(synth.Options{Config: config, MTP: synth.MTPPlain, Seed: 7})
	require.NoError(t, err)
	require.NoError(t, p.Write(t.Context(), src))
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	plan, err := quant.NewPlan(c, scheme, format, o(c))
	require.NoError(t, err)
	_, err = convert.Run(t.Context(), plan, c, dst, convert.Options{Version: "sample"})
	require.NoError(t, err)
	r, err := check.Run(t.Context(), dst, check.Options{Weights: true})
	require.NoError(t, err)
	m, err := runtime.Load(dst, runtime.Options{})
	require.NoError(t, err)
	defer m.Close()
	out, err := spec.Generate(t.Context(), m, []int{1, 2, 3}, spec.Options{MaxTokens: 3})
	require.NoError(t, err)
	assert.NotEmpty(t, out.Tokens)
	return r
}

func plain(*safetensors.Checkpoint) quant.Options { return quant.Options{} }

// small is the configuration of a GLM-4.x with three layers.
func small(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile("../../quant/engine/testdata/models/glm4moe.json")
	require.NoError(t, err)
	return raw
}

// answers are those of the engines.
func answers(r *check.Report) map[string]engine.Answer {
	out := map[string]engine.Answer{}
	for _, v := range r.Engines {
		out[v.Engine] = v.Answer
	}
	return out
}

// TestWhole: what the samples ask holds for what there is.
func TestWhole(t *testing.T) {
	r := whole(t, small(t), quant.W8A8, layout.CompressedTensors, plain)
	assert.True(t, r.OK, r.Text())
	assert.Equal(t, engine.Loads, answers(r)["vllm"])
}
