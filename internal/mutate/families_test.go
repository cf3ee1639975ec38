package mutate

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

// TestFamilyMutations: damage that only these families can take fails, with
// its place in the report, in a comparison of files and in one of forward passes.
func TestFamilyMutations(t *testing.T) {
	applied := map[string]int{}
	for _, c := range []struct {
		model  string
		scheme quant.Scheme
		format quant.Format
	}{{"nano-glm5", layout.W4A8, layout.Ascend}, {"nano-glm5", layout.W8A8, layout.CompressedTensors}, {"nano-glm52", layout.W8A8, layout.Ascend},
		{"nano-glm45v", layout.W8A8, layout.CompressedTensors}, {"nano-glm45v", layout.FP8Block, layout.HFFP8}} {
		src := testkit.Shared(t, "reference/"+c.model)
		good := result(t, src, c.scheme, c.format)
		o := verify.Options{Tokens: 256, SeqLen: 32}
		r, err := verify.Compare(t.Context(), src, good, o)
		require.NoError(t, err)
		require.Equal(t, verify.Pass, r.Verdict, report.Text(r))
		suffer(t, c.model+" "+string(c.scheme), good, OfFamilies(), applied, func(t *testing.T, m Mutation, dir string) {
			static, err := verify.Static(t.Context(), src, dir, verify.StaticOptions{})
			require.NoError(t, err)
			named(t, m, static)
			full, err := verify.Compare(t.Context(), src, dir, o)
			require.NoError(t, err)
			named(t, m, full)
		})
	}
	for _, m := range OfFamilies() {
		assert.Positive(t, applied[m.Name], "%s applies to nothing", m.Name)
	}
}
