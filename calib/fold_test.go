package calib

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// references are checkpoints of every family that has one.
var references = []string{"nano-glm4moe", "nano-glm4moe-outliers", "nano-glm5", "nano-glm52", "nano-glm45v", "tiny-glm4moe"}

// anySet moves random powers of two at every site.
func anySet(cfg *glm.Config, seed uint64) *fold.Set {
	r, set := rand.New(rand.NewPCG(seed, 1)), fold.NewSet()
	for _, s := range fold.Sites(cfg) {
		e := make(fold.Exponents, s.Channels)
		for i := range e {
			e[i] = int8(r.IntN(9) - 4)
		}
		set.Put(&s, e)
	}
	return set
}

// evaluate returns logits, draft logits and experts of a text.
func evaluate(t *testing.T, cfg *glm.Config, src runtime.Source, ids []int) runtime.Evaluation {
	p, err := runtime.NewResident(cfg, src)
	require.NoError(t, err)
	m, err := runtime.New(cfg, p, runtime.Options{})
	require.NoError(t, err)
	o := runtime.EvalOptions{Logits: true, Router: true, Keys: true}
	if cfg.MTPLayers > 0 {
		o.MTP = 2
	}
	e, err := m.Evaluate(context.Background(), [][]int{ids}, o)
	require.NoError(t, err)
	return e[0]
}

// TestFoldedIsTheSameFunction: with powers of two at every site, MTP layer
// included, every logit keeps every bit.
func TestFoldedIsTheSameFunction(t *testing.T) {
	for _, name := range references {
		t.Run(name, func(t *testing.T) {
			dir := testkit.Shared(t, "reference/"+name)
			cfg, err := glm.LoadConfig(dir)
			require.NoError(t, err)
			src, err := safetensors.OpenDir(dir)
			require.NoError(t, err)
			defer src.Close()
			set := anySet(cfg, 7)
			folded, err := fold.NewReader(cfg, src, set)
			require.NoError(t, err)
			ids := make([]int, 70)
			for i := range ids {
				ids[i] = (i*i*31 + 7*i) % cfg.VocabSize
			}
			want, got := evaluate(t, cfg, src, ids), evaluate(t, cfg, folded, ids)
			require.Equal(t, want.Logits, got.Logits)
			require.Equal(t, want.MTP, got.MTP)
			require.Equal(t, want.Router, got.Router)
			require.Equal(t, want.Keys, got.Keys)
		})
	}
}
