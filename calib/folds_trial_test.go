package calib

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// TestTrialInParts: errors under folds have the same bits however many rows of a weight
// are read at a time, and on however many goroutines; no more rows are read than that.
func TestTrialInParts(t *testing.T) {
	const rows, cols, inputs = 300, 96, 20
	r := rand.New(rand.NewPCG(3, 9))
	floats := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	w, x := floats(rows*cols), floats(inputs*cols)
	list := []fold.Exponents{make(fold.Exponents, cols), make(fold.Exponents, cols)}
	for c := range cols {
		list[1][c] = int8(c%5 - 2)
	}
	for _, tt := range []struct {
		name string
		spec numeric.Spec
	}{
		{"int8 channel", numeric.Spec{Code: numeric.Int8, Rule: numeric.CompressedTensors, BlockRows: 1}},
		{"int4 group", numeric.Spec{Code: numeric.Int4, Rule: numeric.CompressedTensors, BlockRows: 1, BlockCols: 32}},
		{"fp8 block", numeric.Spec{Code: numeric.E4M3, Rule: numeric.DeepSeekBlock, BlockRows: 128, BlockCols: 128}},
		{"NVFP4", numeric.Spec{Code: numeric.E2M1, Rule: numeric.NVFP4, BlockRows: 1, BlockCols: 16}},
		{"NVFP4, times", numeric.Spec{Code: numeric.E2M1, Rule: numeric.NVFP4, BlockRows: 1, BlockCols: 16, Times: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := func(part, workers int) []float64 {
				most := 0
				tr := &trial{spec: tt.spec, item: &quant.Item{}, rows: rows, cols: cols, x: x, part: part,
					workers: &kernel.Workers{N: workers}, interrupted: func() error { return nil },
					read: func(lo, hi int) ([]float32, error) {
						most = max(most, hi-lo)
						return w[lo*cols : hi*cols], nil
					}}
				sums, err := tr.errors(list, func(c int) int { return c })
				require.NoError(t, err)
				require.LessOrEqual(t, most, part)
				return sums
			}
			want := run(3*trialRows, 1)
			require.Positive(t, want[0])
			require.NotEqual(t, want[0], want[1])
			for _, part := range []int{trialRows, 2 * trialRows, 3 * trialRows} {
				for _, workers := range []int{1, 4} {
					assert.Equal(t, want, run(part, workers), "%d rows, %d workers", part, workers)
				}
			}
		})
	}
}

// TestTrialFitsIntoMemory: what a trial takes stays within memory on a machine with
// many CPUs, where memory has room for one worker and a band of rows.
func TestTrialFitsIntoMemory(t *testing.T) {
	for _, tt := range []struct {
		name          string
		room          int64
		rows, cols    int
		cpus          int
		part, workers int
	}{
		{"o_proj of GLM-5, 1 GiB, many CPUs", 800 << 20, 6144, 16384, 96, 2688, 13},
		{"o_proj of GLM-5, 1 GiB, two CPUs", 800 << 20, 6144, 16384, 2, 4864, 2},
		{"an expert: all rows, all CPUs", 800 << 20, 6144, 2048, 96, 6144, 96},
		{"fewer rows than a band", 800 << 20, 20, 64, 96, trialRows, 96},
		{"no room", -1, 6144, 16384, 96, trialRows, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			part, n := shareTrial(tt.room, tt.rows, tt.cols, samples, tt.cpus)
			assert.Equal(t, []int{tt.part, tt.workers}, []int{part, n})
			if tt.room > 0 {
				taken := trialInputs(tt.cols, samples) + int64(part)*trialRow(tt.cols, samples) + int64(n)*trialWorker(tt.cols, samples)
				assert.LessOrEqual(t, taken, tt.room)
			}
		})
	}
}

// TestTrialIsInterrupted: a search ends between the folds of a weight.
func TestTrialIsInterrupted(t *testing.T) {
	_, src, _ := opened(t, "nano-glm4moe", 20)
	plan, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	f := &folder{plan: plan, src: src, workers: &kernel.Workers{N: 1}}
	for i := range plan.Items {
		it := &plan.Items[i]
		if it.Action != quant.Quantize || it.Weight.Tensor.Role != glm.AttnO {
			continue
		}
		_, cols := it.Weight.Dims()
		ctx, stop := context.WithCancel(t.Context())
		tried := 0
		_, err := f.trial(ctx, it, make([]float32, cols)).errors([]fold.Exponents{{0}, {1}}, func(int) int { tried++; stop(); return 0 })
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, cols, tried)
		return
	}
	t.Fatal("no weight")
}
