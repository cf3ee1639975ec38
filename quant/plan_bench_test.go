package quant

import (
	"testing"

	"github.com/stretchr/testify/require"

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
