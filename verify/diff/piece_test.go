package diff

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// spoiled moves the first code of every piece by one, so that nothing is equal.
type spoiled struct{ *quant.Rounder }

func (s spoiled) RoundBytes(src []byte, d numeric.Decoder, rows int, x *numeric.Scratch) (*numeric.Matrix, numeric.Stats, error) {
	m, st, err := s.Rounder.RoundBytes(src, d, rows, x)
	if err == nil {
		m.Codes[0] ^= 1
	}
	return m, st, err
}

// TestEqualPieces: where our own rounding has the codes and scales of B, the
// figures are those that widening both gives.
func TestEqualPieces(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	ctx := context.Background()
	for _, c := range []struct {
		s quant.Scheme
		f quant.Format
	}{
		{quant.W8A8, layout.CompressedTensors}, {quant.W8A8, layout.Ascend}, {quant.FP8, layout.CompressedTensors}, {quant.FP8Block, layout.HFFP8},
		{quant.W4A8, layout.CompressedTensors}, {quant.W4A8, layout.Ascend}, {quant.W4A16, layout.CompressedTensors},
	} {
		for _, arith := range []numeric.Arith{numeric.Best, numeric.Compat} {
			ckpt, err := safetensors.OpenDir(src)
			require.NoError(t, err)
			p, err := quant.NewPlan(ckpt, c.s, c.f, quant.Options{Arith: arith})
			require.NoError(t, err)
			dst := t.TempDir() + "/out"
			_, err = convert.Run(ctx, p, ckpt, dst, convert.Options{})
			require.NoError(t, err)
			require.NoError(t, ckpt.Close())
			own := p.Rounders()
			figures := func(with func(*quant.Rounder) Rounder) map[string]Module {
				r, err := Run(ctx, src, dst, Options{Rounder: func(w Weight) Rounder {
					if x, ok := own[w.Module]; ok {
						return with(x)
					}
					return nil
				}})
				require.NoError(t, err)
				out := map[string]Module{}
				for _, m := range r.Modules {
					out[m.Name] = m
				}
				return out
			}
			equal := figures(func(r *quant.Rounder) Rounder { return r })
			widened := figures(func(r *quant.Rounder) Rounder { return spoiled{r} })
			require.NotEmpty(t, equal)
			for name, m := range equal {
				w := widened[name]
				require.NotNil(t, m.Own, "%s %s %s", c.s, c.f, name)
				require.Empty(t, m.Why)
				assert.Zero(t, m.Own.Off)
				assert.Equal(t, m.Relative, m.Own.Relative)
				assert.Positive(t, w.Own.Off, "the other way was not taken")
				assert.InEpsilon(t, float64(w.Relative), float64(m.Relative), 1e-5, "%s %s %s", c.s, c.f, name)
				assert.InEpsilon(t, float64(w.MaxAbs), float64(m.MaxAbs), 1e-5, "%s %s %s", c.s, c.f, name)
			}
		}
	}
}
