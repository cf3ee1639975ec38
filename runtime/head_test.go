package runtime

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/quant/numeric"
)

// TestLogitReader: logits that come a run of the vocabulary at a time are those
// that come at once, to the bit, whatever runs and tiles, and the head is read
// once.
func TestLogitReader(t *testing.T) {
	cfg := tinyConfig(t, map[string]any{"vocab_size": 700})
	src := random(cfg, 3)
	rapid.Check(t, func(t *rapid.T) {
		p, err := NewStreaming(cfg, src, int64(rapid.IntRange(1, 40000).Draw(t, "tile")))
		require.NoError(t, err)
		m, err := New(cfg, p, Options{Threads: rapid.IntRange(1, 3).Draw(t, "threads")})
		require.NoError(t, err)
		rows, v := rapid.IntRange(1, 5).Draw(t, "rows"), cfg.VocabSize
		h := make([]float32, rows*cfg.HiddenSize)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range h {
			h[i] = float32(rng.NormFloat64())
		}
		want, err := m.Logits(context.Background(), h)
		require.NoError(t, err)
		run := LogitRun * rapid.IntRange(1, 6).Draw(t, "run")
		z := make([]float32, rows*run)
		pass, at := m.LogitReader(h), 0
		for {
			n, err := pass.Next(context.Background(), run, z)
			require.NoError(t, err)
			if n == 0 {
				break
			}
			for i := range rows {
				assert.Equal(t, want[i*v+at:][:n], z[i*n:][:n])
			}
			at += n
		}
		assert.Equal(t, v, at)
	})
}

// TestWeightSlice: rows of a quantised weight are the same rows after the cut.
func TestWeightSlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const rows, cols = 300, 256
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for _, spec := range []numeric.Spec{
		{Code: numeric.Int8, Rule: numeric.CompressedTensors, BlockRows: 1},
		{Code: numeric.E4M3, Rule: numeric.DeepSeekBlock, BlockRows: 128, BlockCols: 128},
		{Code: numeric.Int4, Rule: numeric.CompressedTensors, BlockRows: 1, BlockCols: 128},
	} {
		q, _, err := numeric.Quantize(spec, x, rows, cols, nil)
		require.NoError(t, err)
		w := &Weight{Rows: rows, Cols: cols, Quant: q}
		want := make([]float32, rows*cols)
		q.Dequant(want, 0, rows)
		for lo := 0; lo < rows; lo += LogitRun {
			hi := min(lo+LogitRun, rows)
			got := make([]float32, (hi-lo)*cols)
			w.slice(lo, hi).Quant.Dequant(got, 0, hi-lo)
			assert.Equal(t, want[lo*cols:hi*cols], got)
		}
	}
}
