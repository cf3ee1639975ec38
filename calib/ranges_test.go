package calib

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
)

// observed are the ranges of inputs that a forward pass of the folded model shows.
func observed(t *testing.T, plan *quant.Plan, src fold.Files, seqs [][]int) map[string]quant.Range {
	set := plan.Folds
	if set == nil {
		set = fold.NewSet()
	}
	r, err := fold.NewReader(plan.Config, src, set)
	require.NoError(t, err)
	p, err := runtime.NewStreaming(plan.Config, r, 0)
	require.NoError(t, err)
	defer p.Stop()
	out := map[string]quant.Range{}
	m, err := runtime.New(plan.Config, p, runtime.Options{Observe: func(w *glm.Tensor, _ int, x func() []float32) error {
		was := out[w.Module]
		out[w.Module] = quant.Range{Lo: min(was.Lo, slices.Min(x())), Hi: max(was.Hi, slices.Max(x()))}
		return nil
	}})
	require.NoError(t, err)
	_, err = m.Evaluate(t.Context(), seqs, runtime.EvalOptions{})
	require.NoError(t, err)
	return out
}

// TestRangesAreThoseOfTheFoldedModel: they come from statistics of the source, and
// a forward pass of the folded model sees the same.
func TestRangesAreThoseOfTheFoldedModel(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm5-outliers", 6)
	st, err := Collect(t.Context(), cfg, src, seqs, CollectOptions{})
	require.NoError(t, err)
	for _, mode := range []quant.FoldMode{quant.FoldOff, quant.FoldGamma} {
		p, err := quant.NewPlan(src, quant.W8A8, layout.Ascend, quant.Options{Fold: mode})
		require.NoError(t, err)
		got, err := Ranges(p, st)
		require.NoError(t, err)
		want := observed(t, p, src, seqs)
		for _, m := range []string{"q_a_proj", "kv_a_proj_with_mqa", "q_b_proj", "o_proj", "indexer.wq_b"} {
			module := "model.layers.1.self_attn." + m
			assert.InEpsilon(t, want[module].Hi, got[module].Hi, 1e-6, module)
			assert.InEpsilon(t, want[module].Lo, got[module].Lo, 1e-6, module)
		}
	}
}

// TestStatisticsWithoutRanges: those of versions that gathered none are read, and
// refused where ranges are needed.
func TestStatisticsWithoutRanges(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm5", 2)
	st, err := Collect(t.Context(), cfg, src, seqs, CollectOptions{})
	require.NoError(t, err)
	for _, m := range st.held {
		m.Lo, m.Hi = nil, nil
	}
	dir := t.TempDir()
	require.NoError(t, st.Write(fsx.OS, dir, 1, 1))
	old, err := Read(dir)
	require.NoError(t, err)
	p, err := quant.NewPlan(src, quant.W8A8, layout.Ascend, quant.Options{})
	require.NoError(t, err)
	_, err = Ranges(p, old)
	require.ErrorIs(t, err, ErrStatistics)
	assert.ErrorContains(t, err, "calibrate again")
}

// TestAgain: statistics of another checkpoint are gathered with states in files, a
// sequence at a time, are the same as with all in memory, and are gathered once.
func TestAgain(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm5", 9)
	st, err := Collect(t.Context(), cfg, src, seqs, CollectOptions{First: 3})
	require.NoError(t, err)
	c := &collector{cfg: cfg, seqs: seqs, o: CollectOptions{MaxMemory: 1 << 30}}
	room, err := c.room()
	require.NoError(t, err)
	tokens := st.Tokens()
	require.Equal(t, tokens, room)
	o := GatherOptions{Dir: filepath.Join(t.TempDir(), "rotated"), Source: "another basis"}
	for o.MaxMemory = 96 << 20; o.MaxMemory < 1<<30; o.MaxMemory += 64 << 10 { // the least that will do
		c.o.MaxMemory = o.MaxMemory
		if room, err = c.room(); err == nil {
			break
		}
	}
	require.Less(t, room, tokens, "in pieces")
	again, err := st.Again(t.Context(), cfg, src, o)
	require.NoError(t, err)
	assert.Equal(t, st.Sequences, again.Sequences)
	assert.Equal(t, st.First, again.First)
	assert.Equal(t, o.Source, again.Source)
	require.Len(t, again.Names(), len(st.held))
	for name, m := range st.held {
		got, err := again.Moments(name)
		require.NoError(t, err)
		if m.rows == nil {
			got.rows = nil
		}
		require.True(t, assert.ObjectsAreEqual(m, got), name)
	}
	require.NoError(t, again.Close())

	entries, err := os.ReadDir(o.Dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no states are left")
	o.Progress = func(int64, int64, string) { t.Error("gathered twice") }
	again, err = st.Again(t.Context(), cfg, src, o)
	require.NoError(t, err)
	require.NoError(t, again.Close())
	o.Source, o.Progress = "a third one", nil
	again, err = st.Again(t.Context(), cfg, src, o)
	require.NoError(t, err)
	assert.Equal(t, o.Source, again.Source)
	require.NoError(t, again.Close())
}

// TestCacheRangesAreThoseOfTheFoldedModel: of keys after rope and values.
func TestCacheRangesAreThoseOfTheFoldedModel(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm4moe-outliers", 6)
	st, err := Collect(t.Context(), cfg, src, seqs, CollectOptions{})
	require.NoError(t, err)
	set := fold.NewSet()
	for _, s := range fold.Sites(cfg) {
		e := make(fold.Exponents, s.Channels)
		for i := range e {
			e[i] = int8(i%3 - 1)
		}
		set.Put(&s, e)
	}
	got, err := CacheRanges(cfg, set, st)
	require.NoError(t, err)
	r, err := fold.NewReader(cfg, src, set)
	require.NoError(t, err)
	p, err := runtime.NewStreaming(cfg, r, 0)
	require.NoError(t, err)
	defer p.Stop()
	want := map[string]*Limits{}
	m, err := runtime.New(cfg, p, runtime.Options{ObserveCache: func(layer int, k, v []float32) {
		for name, rows := range map[string][]float32{"k_proj": k, "v_proj": v} {
			module := cfg.LayerPrefix(layer) + "self_attn." + name
			if want[module] == nil {
				want[module] = newLimits(cfg.KVHeads * cfg.HeadDim)
			}
			want[module].add(rows)
		}
	}})
	require.NoError(t, err)
	_, err = m.Evaluate(t.Context(), seqs, runtime.EvalOptions{})
	require.NoError(t, err)
	require.Len(t, want, 2*cfg.Layers)
	require.Len(t, got, 2*(cfg.Layers+cfg.MTPLayers))
	for module, l := range want {
		for c := range l.Lo {
			assert.InDelta(t, l.Lo[c], got[module][c].Lo, 1e-5)
			assert.InDelta(t, l.Hi[c], got[module][c].Hi, 1e-5)
		}
	}
}
