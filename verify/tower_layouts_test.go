package verify

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/vision"
	"github.com/glmconv/glmconv/safetensors"
)

// TestTowerInEveryLayout: every layout keeps the tower to the bit and the
// runtime reads the result, pictures and all.
func TestTowerInEveryLayout(t *testing.T) {
	ctx := context.Background()
	dir := testkit.Shared(t, "reference/nano-glm45v")
	source := visionModel(t, dir)
	src, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer src.Close()
	p, err := vision.Load(dir, source.Model.Config())
	require.NoError(t, err)
	in, err := p.Probes(source.Model.Config(), [][]int{{988, 5, 9, 200, 31, 7}, {17, 4, 300}})
	require.NoError(t, err)
	want := logits(t, source.Model, in)
	for _, s := range layout.Schemes {
		for _, f := range layout.Formats {
			if layout.Supported(s, f) != nil || s == layout.BF16 || s.Calibrated() {
				continue
			}
			t.Run(string(s)+"/"+string(f), func(t *testing.T) {
				o := quant.Options{GroupSize: 32}
				if s == quant.W4A8FP8 {
					o.GroupSize = 0
				}
				plan, err := quant.NewPlan(src, s, f, o)
				var impossible *layout.ImpossibleError
				if errors.As(err, &impossible) {
					t.Skip(err)
				}
				require.NoError(t, err)
				dst := filepath.Join(t.TempDir(), "result")
				_, err = convert.Run(ctx, plan, src, dst, convert.Options{Workers: 2, Version: "test"})
				require.NoError(t, err)
				result := visionModel(t, dst)
				r, err := CompareTowers(ctx, source, result)
				require.NoError(t, err)
				assert.Empty(t, r.Failed())
				d := vision.Relative(want, logits(t, result.Model, in))
				t.Logf("logits: relative error %.3g", d)
				assert.Positive(t, d, "something is quantised")
				limit := 0.12 // of 8 bits
				if s != quant.FP8 && s != quant.FP8Block && s != quant.W8A8 {
					limit = 0.25
				}
				assert.Less(t, d, limit)
			})
		}
	}
}

// logits are those of all prompts, one after the other.
func logits(t *testing.T, m *runtime.Model, in []*vision.Inputs) (out []float32) {
	var seqs [][]int
	var media []*runtime.Media
	for _, x := range in {
		d, err := m.Media(context.Background(), x)
		require.NoError(t, err)
		seqs, media = append(seqs, x.IDs), append(media, d)
	}
	ev, err := m.Evaluate(context.Background(), seqs, runtime.EvalOptions{Logits: true, Media: media})
	require.NoError(t, err)
	for _, e := range ev {
		out = append(out, e.Logits...)
	}
	for _, v := range out {
		require.False(t, math.IsNaN(float64(v)))
	}
	return out
}
