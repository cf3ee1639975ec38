package calib

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify/check"
)

// TestDivergence: the KL of rows that come in runs is that of the whole rows.
func TestDivergence(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	p, q := make([]float32, 1000), make([]float32, 1000)
	for i := range p {
		p[i] = float32(r.NormFloat64() * 9)
		q[i] = p[i] + float32(r.NormFloat64())
	}
	lse := func(z []float32) (s float64) {
		for _, v := range z {
			s += math.Exp(float64(v))
		}
		return math.Log(s)
	}
	want := 0.0
	for i := range p {
		lp, lq := float64(p[i])-lse(p), float64(q[i])-lse(q)
		want += math.Exp(lp) * (lp - lq)
	}
	d := newDivergence()
	for i := 0; i < len(p); i += 125 {
		d.add(p[i:i+125], q[i:i+125])
	}
	assert.InEpsilon(t, want, d.value(), 1e-9)
	same := newDivergence()
	same.add(p, p)
	assert.Zero(t, same.value())
}

// mixOf plans a scheme of a reference, measures its units and returns them.
func mixOf(t *testing.T, model string, scheme quant.Scheme, form layout.Format, memory int64, workers int) (*Mix, *Statistics, MeasureOptions) {
	cfg, src, seqs := opened(t, model, 24)
	st, err := Collect(context.Background(), cfg, src, seqs[:12], CollectOptions{})
	require.NoError(t, err)
	plan, err := quant.NewPlan(src, scheme, form, quant.Options{Fold: quant.FoldGamma})
	require.NoError(t, err)
	m, err := NewMix(plan, src, engine.Query{})
	require.NoError(t, err)
	o := MeasureOptions{Sequences: seqs[12:], Workers: workers, MaxMemory: memory}
	require.NoError(t, m.Measure(context.Background(), st, o))
	return m, st, o
}

// TestMeasureKeepsCodesInFiles: where memory has no room for the codes of a layer
// they are in a file, which is gone afterwards, and no figure changes.
func TestMeasureKeepsCodesInFiles(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm4moe", 12)
	st, err := Collect(context.Background(), cfg, src, seqs[:8], CollectOptions{})
	require.NoError(t, err)
	plan, err := quant.NewPlan(src, quant.W4A16, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	m, err := NewMix(plan, src, engine.Query{})
	require.NoError(t, err)
	var want, got float64
	tokens := 0
	for _, s := range seqs[8:] {
		tokens += len(s)
	}
	exact := collectNeed(cfg, 0) + 2*(collectNeed(cfg, tokens)-collectNeed(cfg, 0)) // states of two models, nothing for codes
	want, err = m.Whole(context.Background(), plan, st, MeasureOptions{Sequences: seqs[8:]})
	require.NoError(t, err)
	files := &creations{FS: fsx.OS}
	o := MeasureOptions{Sequences: seqs[8:], MaxMemory: exact, Scratch: filepath.Join(t.TempDir(), "scratch"), FS: files}
	got, err = m.Whole(context.Background(), plan, st, o)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.GreaterOrEqual(t, files.n, cfg.Layers, "a file for each layer")
	left, err := os.ReadDir(o.Scratch)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// creations counts the files that are created.
type creations struct {
	fsx.FS
	n int
}

func (c *creations) Create(name string) (fsx.File, error) { c.n++; return c.FS.Create(name) }

// TestMeasureIsRepeatable: neither memory nor workers change a figure.
func TestMeasureIsRepeatable(t *testing.T) {
	one, _, _ := mixOf(t, "nano-glm5", quant.W4A16, layout.CompressedTensors, 1<<30, 2)
	two, _, _ := mixOf(t, "nano-glm5", quant.W4A16, layout.CompressedTensors, 102<<20, 1)
	require.Equal(t, one.Units, two.Units)
	gains := 0
	for _, u := range one.Units {
		require.GreaterOrEqual(t, len(u.Rungs), 2, u.Name)
		assert.Positive(t, u.Rungs[0].KL, u.Name)
		for i := 1; i < len(u.Rungs); i++ {
			assert.Greater(t, u.Rungs[i].Bytes, u.Rungs[i-1].Bytes, u.Name)
		}
		if u.Rungs[1].KL < u.Rungs[0].KL/2 {
			gains++
		}
	}
	assert.GreaterOrEqual(t, gains, len(one.Units)-1, "8 bits are far better than 4, but for flips of experts")
}

// TestBudget: results within budgets load, are sound, and the more they may take
// the nearer they are.
func TestBudget(t *testing.T) {
	for _, c := range []struct {
		model  string
		scheme quant.Scheme
		format layout.Format
	}{
		{"nano-glm5", quant.W4A16, layout.CompressedTensors},
		{"nano-glm52", quant.W4A8, layout.Ascend},
		{"nano-glm4moe", quant.FP8Block, layout.HFFP8},
		{"nano-glm45v", quant.W4A16, layout.CompressedTensors},
	} {
		t.Run(fmt.Sprint(c.model, " ", c.scheme), func(t *testing.T) {
			m, st, o := mixOf(t, c.model, c.scheme, c.format, 1<<30, 2)
			ctx := context.Background()
			whole, err := m.Whole(ctx, m.Plan, st, o)
			require.NoError(t, err)
			path := m.Walk(whole)
			points := path.Points()
			require.Greater(t, len(points), 2)
			assert.InEpsilon(t, whole, points[0].KL, 1e-9)

			_, _, err = path.Within(points[0].Bytes / 2)
			require.ErrorIs(t, err, layout.ErrImpossible)
			budget := wholeSize(m.Plan) + (points[len(points)-1].Bytes-points[0].Bytes)/2
			plan, mixed, err := path.Within(budget)
			require.NoError(t, err)
			assert.NotEmpty(t, plan.Options.Lifted)
			assert.Less(t, mixed.Points[mixed.Chosen].KL, points[0].KL)
			kl, err := m.Whole(ctx, plan, st, o)
			require.NoError(t, err)
			assert.Less(t, kl, whole)

			out := filepath.Join(t.TempDir(), "out")
			_, err = convert.Run(ctx, plan, m.src, out, convert.Options{})
			require.NoError(t, err)
			assert.LessOrEqual(t, testkit.Size(t, out), budget)
			man, err := quant.ReadManifest(out)
			require.NoError(t, err)
			assert.Equal(t, plan.Options.Lifted, man.Lifted)
			rep, err := check.Run(ctx, out, check.Options{})
			require.NoError(t, err)
			for _, f := range rep.Findings {
				assert.Equal(t, check.Info, f.Severity, f.Detail)
			}

			near, mixed, err := path.Nearest(ctx, whole/3, func(p *quant.Plan) (float64, error) { return m.Whole(ctx, p, st, o) })
			require.NoError(t, err)
			assert.LessOrEqual(t, mixed.Measured, whole/3)
			assert.Greater(t, near.ResultBytes, m.Plan.ResultBytes)
			_, _, err = path.Nearest(ctx, 1e-30, func(p *quant.Plan) (float64, error) { return m.Whole(ctx, p, st, o) })
			var no *UnreachableError
			require.ErrorAs(t, err, &no)
			assert.Equal(t, points[len(points)-1].Bytes, no.Nearest.Bytes)
		})
	}
}

// TestMixKeepsToEngines: what an engine has no class for is no rung.
func TestMixKeepsToEngines(t *testing.T) {
	_, src, _ := opened(t, "nano-glm4moe", 1)
	rungs := func(scheme quant.Scheme, form layout.Format, engines ...string) map[string][]layout.Lift {
		plan, err := quant.NewPlan(src, scheme, form, quant.Options{})
		require.NoError(t, err)
		var q engine.Query
		for _, e := range engines {
			r, err := engine.Find(e)
			require.NoError(t, err)
			q.Releases = append(q.Releases, r)
		}
		m, err := NewMix(plan, src, q)
		require.NoError(t, err)
		out := map[string][]layout.Lift{}
		for _, u := range m.Units {
			var list []layout.Lift
			for _, r := range u.Rungs[1:] {
				list = append(list, r.Lift)
			}
			out[u.kind] = list
		}
		return out
	}
	w8a8 := rungs(quant.W8A8, layout.CompressedTensors)
	assert.Empty(t, w8a8["experts"], "w8a8_int8 of SGLang cannot build experts in full precision")
	assert.Equal(t, []layout.Lift{layout.LiftFloat}, w8a8["qkv_proj"])
	w4a16 := rungs(quant.W4A16, layout.CompressedTensors)
	assert.Equal(t, []layout.Lift{layout.LiftInt8, layout.LiftFloat}, w4a16["experts"])
	ascend := rungs(quant.W4A8, layout.Ascend, "vllm-ascend")
	assert.Contains(t, ascend["experts"], layout.LiftInt8)
	sglang := rungs(quant.W4A8, layout.Ascend, "sglang")
	assert.Equal(t, []layout.Lift{layout.LiftInt8}, sglang["experts"], "its NPU path has no class for experts in FLOAT")
}

// TestMixedLayersAreJudged: an engine that lacks the format of one layer alone
// does not load the model.
func TestMixedLayersAreJudged(t *testing.T) {
	cfg, _, _ := opened(t, "nano-glm4moe", 1)
	s := engine.Subject{Config: cfg, Layout: engine.CompressedTensors}
	layers := engine.Layers{}
	four := engine.Part{Weight: format.Int4(128).Packed(format.Words)}
	for _, tensor := range cfg.Table() {
		if tensor.Role.IsExpert() && tensor.Param == "weight" && !tensor.MTP {
			p := four
			if tensor.Layer == 2 {
				p.Acts = format.Float8Token
			}
			if layers.Add(tensor, p); !s.Experts.Weight.Quantized() {
				s.Experts = p
			}
		}
	}
	ampere, err := engine.FindDevice("a100-80g")
	require.NoError(t, err)
	q := engine.Query{Releases: []engine.Release{engine.Newest(engine.VLLM)}, Hardware: &ampere}
	assert.True(t, engine.Judge(s, q)[0].OK())
	assert.Equal(t, engine.Refuses, engine.Judge(layers.Mixed(s), q)[0].Answer)
}
