package check

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/safetensors"
)

// TestFindWithin: texts that are names or parts of names between dots.
func TestFindWithin(t *testing.T) {
	names := []string{"model.layers.10.mlp.experts.3.up_proj", "lm_head", "odd..name", ""}
	for text, want := range map[string]bool{
		"model.layers.10.mlp.experts.3.up_proj": true, "layers.10.mlp": true, "10": true, "model": true, "up_proj": true, "lm_head": true,
		"layers.1": false, "yers.10": false, "0.mlp": false, "up": false, "mlp.experts.4": false, "odd.": true, "odd..name": true, "other": false,
	} {
		p, err := declaration.New(text, declaration.Exact)
		require.NoError(t, err)
		assert.Equal(t, want, findWithin([]*declaration.Pattern{p}, names)[text], text)
	}
}

// TestFarFromUnitStops: a wide product ends with its context.
func TestFarFromUnitStops(t *testing.T) {
	unit := []float32{1, 0, 0, 1}
	_, far, err := farFromUnit(t.Context(), unit, unit, 2)
	require.NoError(t, err)
	assert.Zero(t, far)
	row, far, err := farFromUnit(t.Context(), unit, []float32{1, 0, 0.5, 1}, 2)
	require.NoError(t, err)
	assert.Equal(t, 0, row)
	assert.InDelta(t, 0.5, far, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = farFromUnit(ctx, unit, unit, 2)
	assert.ErrorIs(t, err, context.Canceled)
}

// TestCopiesOfAnotherWidth: no row is as long as a file says.
func TestCopiesOfAnotherWidth(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm4moe")
	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	ckpt, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer ckpt.Close()
	embed, _ := cfg.MTPNames(cfg.Layers)
	for _, width := range []int64{int64(cfg.HiddenSize), 1 << 40} {
		s := &subject{cfg: cfg, ckpt: ckpt, opts: Options{Weights: true}, tensors: map[string]safetensors.Info{}}
		for _, n := range []string{embed, cfg.EmbeddingName()} {
			s.tensors[n] = safetensors.Info{Name: n, DType: safetensors.BF16, Shape: []int64{1, width}, Size: 2 * width}
		}
		assert.Len(t, s.copyJobs(), map[bool]int{true: 1}[width == int64(cfg.HiddenSize)], width)
	}
}

// TestPatternsUntried: expressions beyond what is tried are said not to be judged.
func TestPatternsUntried(t *testing.T) {
	cfg, err := glm.LoadConfig(testkit.Shared(t, "reference/nano-glm4moe"))
	require.NoError(t, err)
	var list []*declaration.Pattern
	for _, text := range []string{`.*none1\..*`, `.*none2\..*`, `.*none3\..*`} {
		p, err := declaration.New(text, declaration.Glob)
		require.NoError(t, err)
		list = append(list, p)
	}
	rows := cfg.Table()
	for tries, want := range map[int]map[string]int{20_000_000: {"pattern-unused": 3}, 0: {"pattern-unjudged": 1}} {
		s := &subject{cfg: cfg, rows: rows, report: &Report{}, decl: &declared{Declaration: &declaration.Declaration{Ignore: declaration.List{Entries: list}}}}
		s.checkPatterns(t.Context(), tries)
		got := map[string]int{}
		for _, f := range s.report.Findings {
			got[f.Code]++
		}
		assert.Equal(t, want, got, tries)
	}
}
