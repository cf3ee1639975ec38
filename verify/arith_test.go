package verify_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/verify"
)

// TestBestIsNoWorse: on the whole corpus, block FP8 in our own rounding strays no
// further from the source than in llm-compressor's. Over the 230 positions of the
// golden sequences it seems to (0.0074 nats against 0.0047), because two of them
// choose another expert with it; over 4,200 there is no difference but chance.
func TestBestIsNoWorse(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	run := func(a numeric.Arith) *verify.Result {
		r, text := compare(t, src, convertAs(t, src, layout.FP8Block, layout.CompressedTensors, quant.Options{Arith: a}), verify.Options{Tokens: 8192, SeqLen: 64, AllTokens: true})
		require.Equal(t, verify.Pass, r.Verdict, text)
		return r
	}
	best, compat := run(numeric.Best), run(numeric.Compat)
	t.Logf("%d tokens: best %.3g ± %.1g, compat %.3g ± %.1g", best.Tokens, best.KL.Mean, best.Logits.StdErr, compat.KL.Mean, compat.Logits.StdErr)
	require.Greater(t, best.Tokens, 4000)
	assert.Less(t, best.KL.Mean, 1.05*compat.KL.Mean)
	mean := func(r *verify.Result) (sum float64) {
		for _, x := range r.Tensors {
			sum += x.Relative / float64(len(r.Tensors))
		}
		return sum
	}
	assert.Less(t, mean(best), mean(compat), "of the weights' errors")
}
