package check

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// convert quantises a reference checkpoint and returns the result's directory.
func convert(t testing.TB, model string, scheme quant.Scheme, format quant.Format, o quant.Options) string {
	t.Helper()
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/"+model))
	require.NoError(t, err)
	defer src.Close()
	plan, err := quant.NewPlan(src, scheme, format, o)
	var impossible *layout.ImpossibleError
	if errors.As(err, &impossible) {
		t.Skip(err)
	}
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "result")
	_, err = quant.Convert(context.Background(), plan, src, dst, quant.ConvertOptions{Workers: 2, Version: "test"})
	require.NoError(t, err)
	return dst
}

// TestOwnResults: whatever quantize writes is good, with every byte read.
func TestOwnResults(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "tiny-glm4moe", "nano-glm5", "nano-glm52", "nano-glm45v"} {
		for _, s := range layout.Schemes {
			for _, f := range layout.Formats {
				if layout.Supported(s, f) != nil {
					continue
				}
				t.Run(model+"/"+string(s)+"/"+string(f), func(t *testing.T) {
					t.Parallel()
					r := examine(t, convert(t, model, s, f, quant.Options{GroupSize: 32}), Options{Weights: true})
					assert.True(t, r.OK, "%s", r.Text())
					assert.Positive(t, r.Hashed)
					for _, x := range r.Findings {
						if x.Severity != Info {
							t.Log(x)
						}
					}
				})
			}
		}
	}
}
