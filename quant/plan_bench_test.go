package quant

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// BenchmarkPlan plans GLM-5 whole: opening 353 headers, 59,870 tensors.
func BenchmarkPlan(b *testing.B) {
	p, err := synth.NewPlan(synth.Options{Preset: "glm-5", Sparse: true})
	require.NoError(b, err)
	dir := b.TempDir()
	require.NoError(b, p.Write(b.Context(), dir))
	for _, s := range []Scheme{layout.W4A8, layout.W8A8} {
		b.Run(string(s), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				src, err := safetensors.OpenDir(dir)
				require.NoError(b, err)
				plan, err := NewPlan(src, s, "", Options{})
				require.NoError(b, err)
				_ = plan.Summary()
				require.NoError(b, src.Close())
			}
		})
	}
}

// BenchmarkPlanFP8 plans GLM-5.3's default repository beside GLM-5 in BF16:
// twice the tensors, a weight and its scales each.
func BenchmarkPlanFP8(b *testing.B) {
	for _, c := range []struct {
		name, preset string
		fp8          bool
	}{{"glm-5 BF16", "glm-5", false}, {"glm-5.3 FP8", "glm-5.2", true}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := synth.NewPlan(synth.Options{Preset: c.preset, Sparse: true})
			require.NoError(b, err)
			infos := s.Infos()
			if c.fp8 {
				infos = inBlocks(infos, s.Config)
			}
			for b.Loop() {
				view, err := layout.NewView(nil, infos, layout.Hints{})
				require.NoError(b, err)
				_, err = newPlan(s.Config, view, W8A8, "", Options{})
				require.NoError(b, err)
			}
			b.ReportMetric(float64(len(infos)), "tensors")
		})
	}
}

// inBlocks makes of a model's tensors those of its block FP8 release.
func inBlocks(infos []safetensors.Info, cfg *glm.Config) (out []safetensors.Info) {
	linear := map[string]bool{}
	for _, t := range cfg.Table() {
		linear[t.Name] = t.Param == "weight" && t.Role.IsLinear()
	}
	for _, t := range infos {
		if !linear[t.Name] {
			out = append(out, t)
			continue
		}
		t.DType, t.Size = safetensors.F8E4M3, t.Size/2
		scale := t
		scale.Name, scale.DType = t.Name+"_scale_inv", safetensors.F32
		scale.Shape = []int64{(t.Shape[0] + 127) / 128, (t.Shape[1] + 127) / 128}
		scale.Size = 4 * scale.Shape[0] * scale.Shape[1]
		out = append(out, t, scale)
	}
	return out
}
