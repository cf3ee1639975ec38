package convert

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// everyInput gives all modules of a checkpoint a largest magnitude.
func everyInput(src *safetensors.Checkpoint) *quant.Inputs {
	in := &quant.Inputs{Source: "made up", AbsMax: map[string]float32{}}
	for i, t := range src.Tensors() {
		if len(t.Shape) == 2 {
			in.AbsMax[t.Name[:len(t.Name)-len(".weight")]] = 1 + float32(i%97)/8
		}
	}
	return in
}

// TestOneRunHoweverCut: schemes of small groups and quantized sources have the
// bytes of one run with one worker whatever the workers, the memory and the
// parts, and when a run is stopped and goes on.
func TestOneRunHoweverCut(t *testing.T) {
	same := quant.Options{Rest: layout.RestSame, MTP: layout.MTPQuantize}
	for _, c := range []struct {
		source string
		scheme quant.Scheme
		format quant.Format
		o      quant.Options
	}{
		{"nano-glm4moe", quant.NVFP4A16, "", same}, {"nano-glm4moe", quant.NVFP4, layout.ModelOpt, same}, {"nano-glm5", quant.NVFP4, "", quant.Options{}},
		{"nano-glm5", quant.MXFP4, "", same}, {"tiny-glm4moe", quant.MXFP8, "", quant.Options{}}, {"nano-glm4moe", quant.Int4Int8, "", quant.Options{GroupSize: 32}},
		{"sources/nano-glm5-fp8", quant.W8A8, layout.Ascend, quant.Options{}}, {"sources/nano-glm5-fp8", quant.BF16, "", quant.Options{}},
		{"sources/nano-glm5-fp8", quant.NVFP4A16, layout.ModelOpt, quant.Options{}}, {"sources/nano-glm4moe-fp8", quant.FP8Block, "", quant.Options{}},
	} {
		t.Run(c.source+" "+string(c.scheme)+" "+string(c.format), func(t *testing.T) {
			src := open(t, testkit.Shared(t, "reference/"+c.source))
			if c.o.ShardSize = 600_000; c.scheme.Calibrated() {
				c.o.Inputs = everyInput(src)
			}
			p, err := quant.NewPlan(src, c.scheme, c.format, c.o)
			require.NoError(t, err)
			run := func(dst string, o Options) *Result {
				res, err := Run(t.Context(), p, src, dst, o)
				require.NoError(t, err)
				return res
			}
			one := filepath.Join(t.TempDir(), "one")
			run(one, Options{Workers: 1})
			want := testkit.FileSums(t, one)
			many := filepath.Join(t.TempDir(), "many")
			run(many, Options{Workers: 5, MaxMemory: 80 << 20})
			assert.Equal(t, want, testkit.FileSums(t, many), "5 workers")
			if n := len(p.Files); n > 1 {
				parts := filepath.Join(t.TempDir(), "parts")
				for i := n; i > 0; i-- {
					assert.Equal(t, i > 1, len(run(parts, Options{Index: i, Count: n}).Pending) > 0)
				}
				assert.Equal(t, want, testkit.FileSums(t, parts), "in parts")
			}
			for _, share := range []int64{1, 2} {
				dst := filepath.Join(t.TempDir(), "stopped")
				ctx, cancel := context.WithCancel(t.Context())
				_, err := Run(ctx, p, src, dst, Options{Workers: 2, Progress: func(done, total int64, _ string) {
					if done >= total*share/3 {
						cancel()
					}
				}})
				cancel()
				if err != nil {
					require.ErrorIs(t, err, context.Canceled)
					run(dst, Options{Workers: 3, Resume: true})
				}
				assert.Equal(t, want, testkit.FileSums(t, dst), "stopped after %d thirds", share)
			}
		})
	}
}
