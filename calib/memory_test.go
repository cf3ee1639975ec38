package calib

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// TestShares: what workers, moments, tokens and inputs are given adds up to no more
// than is allowed, on a machine with many CPUs too.
func TestShares(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm5", 24)
	plan, err := quant.NewPlan(src, quant.W4A16, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	longest := longestOf(seqs)
	need, _ := needs(plan, longest)
	wide := 0
	for i := range plan.Items {
		if it := &plan.Items[i]; it.Action == quant.Quantize {
			r, k := it.Weight.Dims()
			wide = max(wide, r+k)
		}
	}
	tests := []struct {
		name          string
		workers, want int
		limit         int64
	}{
		{"the least", 96, fewWorkers, need},
		{"the least, few CPUs", 2, 2, need},
		{"room for some workers", 96, fewWorkers + 10, need + 20*learn.WorkerBytes},
		{"room for all", 96, 96, need + 1<<30},
		{"room for more", 2, 2, need + 1<<30},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &solver{plan: plan, o: SolveOptions{Sequences: seqs, MaxMemory: tt.limit}, workers: &kernel.Workers{N: tt.workers}, rows: 1 << 20}
			require.NoError(t, s.memory())
			assert.Equal(t, tt.want, s.workers.N)
			taken := collectNeed(cfg, s.chunk) + int64(len(plan.Items))*itemBytes + int64(s.block)*rowBytes(cfg) + s.learnRoom + 6*4*spillRows*int64(wide) + s.room
			assert.LessOrEqual(t, taken+int64(max(s.workers.N-fewWorkers, 0))*learn.WorkerBytes, tt.limit)
		})
	}
	s := &solver{plan: plan, o: SolveOptions{Sequences: seqs, MaxMemory: need - 1}, workers: &kernel.Workers{N: 1}}
	require.ErrorIs(t, s.memory(), quant.ErrMemory)
}
