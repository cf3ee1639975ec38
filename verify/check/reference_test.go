package check

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

func examine(t *testing.T, dir string, o Options) *Report {
	t.Helper()
	o.Workers = 2
	r, err := Run(context.Background(), dir, o)
	require.NoError(t, err)
	for _, f := range r.Findings {
		require.NotNil(t, byName[f.Code], "code %s is not registered", f.Code)
		require.NotEmpty(t, f.Where)
		require.NotEmpty(t, f.Detail)
	}
	if r.Verdict != nil && !r.OK {
		require.NotEmpty(t, r.Cause, "a bad checkpoint without a cause:\n%s", r.Text())
	}
	return r
}

// TestReferenceCheckpoints: every trained checkpoint, and the output of
// llm-compressor with a correct ignore list, is good.
func TestReferenceCheckpoints(t *testing.T) {
	for _, n := range []string{
		"nano-glm4moe", "tiny-glm4moe", "nano-glm5", "nano-glm52", "nano-glm45v",
		"nano-glm4moe-quantized/FP8_DYNAMIC", "nano-glm4moe-quantized/W4A8",
	} {
		t.Run(n, func(t *testing.T) {
			r := examine(t, testkit.Shared(t, "reference/"+n), Options{Weights: true})
			t.Log("\n" + r.Text())
			assert.True(t, r.OK)
			assert.Empty(t, r.Cause)
			for _, f := range r.Findings {
				assert.NotEqual(t, Error, f.Severity, f.Code)
			}
		})
	}
}
