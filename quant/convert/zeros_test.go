package convert_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// A conversion says of biases that they are zero in one layer alone; a model may
// have none in any.
func TestZeroBiases(t *testing.T) {
	for name, c := range map[string]struct {
		part string
		want int
	}{"one layer": {"layers.1.self_attn.q_proj.bias", 1}, "every layer": {"q_proj.bias", 0}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(testkit.Shared(t, "reference/nano-glm4moe"))))
			_, err := mutate.Edit(dir, func(s mutate.Set) (bool, error) {
				for n, x := range s {
					if strings.Contains(n, c.part) {
						clear(x.Data)
					}
				}
				return true, nil
			})
			require.NoError(t, err)
			src, err := safetensors.OpenDir(dir)
			require.NoError(t, err)
			defer src.Close()
			p, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{})
			require.NoError(t, err)
			res, err := convert.Run(t.Context(), p, src, t.TempDir(), convert.Options{})
			require.NoError(t, err)
			assert.Len(t, res.Zeros, c.want)
		})
	}
}
