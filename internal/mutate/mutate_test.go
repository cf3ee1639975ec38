package mutate

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

const config = `{"architectures": ["Glm4MoeForCausalLM"], "attention_bias": true, "eos_token_id": [2], "first_k_dense_replace": 1, "head_dim": 64,
 "hidden_act": "silu", "hidden_size": 256, "intermediate_size": 256, "max_position_embeddings": 512, "model_type": "glm4_moe", "moe_intermediate_size": 256,
 "n_group": 1, "n_routed_experts": 2, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 4, "num_experts_per_tok": 1, "num_hidden_layers": 2,
 "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "pad_token_id": 0, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_theta": 10000,
 "routed_scaling_factor": 1.0, "tie_word_embeddings": false, "topk_group": 1, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "use_qk_norm": false, "vocab_size": 64}`

// source writes the BF16 checkpoint that everything here is made from.
func source(t *testing.T) string {
	t.Helper()
	plan, err := synth.NewPlan(synth.Options{Config: []byte(config), Seed: 7})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "source")
	require.NoError(t, plan.Write(t.Context(), dir))
	return dir
}

// result converts src, or returns "" where the pair cannot be.
func result(t *testing.T, src string, scheme quant.Scheme, format quant.Format) string {
	t.Helper()
	return resultOf(t, src, scheme, format, quant.Options{})
}

// ranges are made up: what NVFP4 needs to know of inputs.
func ranges(c *safetensors.Checkpoint) *quant.Inputs {
	in := &quant.Inputs{Source: "a test", AbsMax: map[string]float32{}}
	for i, t := range c.Tensors() {
		if module, ok := strings.CutSuffix(t.Name, ".weight"); ok {
			in.AbsMax[module] = 3 + float32(i%7)
		}
	}
	return in
}

func resultOf(t *testing.T, src string, scheme quant.Scheme, format quant.Format, o quant.Options) string {
	t.Helper()
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	if scheme.Calibrated() {
		o.Inputs = ranges(c)
	}
	plan, err := quant.NewPlan(c, scheme, format, o)
	var impossible *layout.ImpossibleError
	if errors.As(err, &impossible) {
		return ""
	}
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "result")
	_, err = convert.Run(t.Context(), plan, c, dst, convert.Options{Workers: 2, Version: "test"})
	require.NoError(t, err)
	return dst
}

// clone links the files of dir into a new directory.
func clone(t *testing.T, dir string) string {
	t.Helper()
	out := t.TempDir()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Type().IsRegular() {
			require.NoError(t, os.Link(filepath.Join(dir, e.Name()), filepath.Join(out, e.Name())))
		}
	}
	return out
}

// suffer makes every mutation that applies to good in a copy of it, counts it
// and judges the copy in a test of its own.
func suffer(t *testing.T, name, good string, all []Mutation, applied map[string]int, judge func(*testing.T, Mutation, string)) {
	t.Helper()
	for _, m := range all {
		dir := clone(t, good)
		applies, err := m.Apply(dir)
		require.NoError(t, err, "%s: %s", name, m.Name)
		if !applies {
			continue
		}
		applied[m.Name]++
		t.Run(name+" "+m.Name, func(t *testing.T) {
			t.Parallel()
			judge(t, m, dir)
		})
	}
}

// named requires a negative verdict with a cause and, in the report, one of the
// words that m is known by.
func named(t *testing.T, m Mutation, r *verify.Result) {
	t.Helper()
	text := report.Text(r)
	require.Equal(t, verify.Fail, r.Verdict, text)
	require.NotEmpty(t, r.Cause)
	require.NotEmpty(t, m.Says)
	hit := slices.ContainsFunc(m.Says, func(word string) bool { return strings.Contains(text, word) })
	assert.True(t, hit, "none of %q in:\n%.1500s", m.Says, text)
}

func TestEveryMutationIsSeen(t *testing.T) {
	src := source(t)
	applied := map[string]int{}
	for _, scheme := range layout.Schemes {
		for _, format := range layout.Formats {
			if scheme == layout.BF16 {
				continue // the source is that already
			}
			good := result(t, src, scheme, format)
			if good == "" {
				continue
			}
			name := string(scheme) + " " + string(format)
			r, err := verify.Static(t.Context(), src, good, verify.StaticOptions{})
			require.NoError(t, err)
			require.Equal(t, verify.Pass, r.Verdict, "%s: an untouched result passes:\n%s", name, report.Text(r))
			require.NotZero(t, r.Exact.Quantized)
			suffer(t, name, good, All(), applied, func(t *testing.T, m Mutation, dir string) {
				r, err := verify.Static(t.Context(), src, dir, verify.StaticOptions{})
				require.NoError(t, err)
				named(t, m, r)
			})
		}
	}
	for _, m := range All() {
		assert.Positive(t, applied[m.Name], "%s applies to no layout", m.Name)
	}
}

// A mutation leaves the good checkpoint it was linked from alone.
func TestLinksAreSafe(t *testing.T) {
	src := source(t)
	before := sums(t, src)
	for _, m := range All() {
		_, err := m.Apply(clone(t, src))
		require.NoError(t, err, m.Name)
	}
	assert.Equal(t, before, sums(t, src))
}

func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		out[e.Name()] = string(raw)
	}
	return out
}
