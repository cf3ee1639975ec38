package runtime

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// counted counts the bytes of weights that are read.
type counted struct {
	Source
	n atomic.Int64
}

func (c *counted) ReadAt(t safetensors.Info, off int64, p []byte) error {
	c.n.Add(int64(len(p)))
	return c.Source.ReadAt(t, off, p)
}

// TestReadAhead: tiles that were read ahead are those that are read when asked
// for, whatever is said to come next, whatever is left out of it, and nothing is
// read twice.
func TestReadAhead(t *testing.T) {
	cfg := tinyConfig(t, nil)
	src := random(cfg, 4)
	var weights []*glm.Tensor
	table := cfg.Table()
	for i := range table {
		if len(table[i].Shape) == 2 && !table[i].Optional {
			weights = append(weights, &table[i])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		size := int64(rng.IntN(3000) + 1)
		from := &counted{Source: src}
		s, err := NewStreaming(cfg, from, size)
		require.NoError(t, err)
		plain, err := newLoader(cfg, src)
		require.NoError(t, err)
		var said []*glm.Tensor
		for range 1 + rng.IntN(6) {
			said = append(said, weights[rng.IntN(len(weights))])
		}
		s.prefetch(append(said, nil)...)
		all := rng.IntN(2) == 0
		var bytes int64
		for _, w := range said {
			if !all && rng.IntN(3) == 0 {
				continue
			}
			for lo := 0; lo < int(w.Shape[0]); {
				got, err := s.Tile(w, lo)
				require.NoError(t, err)
				want, err := plain.rows(w, lo, lo+got.Rows)
				require.NoError(t, err)
				assert.Equal(t, want.Data, got.Data)
				lo += got.Rows
				bytes += int64(len(got.Data))
				s.Release(got)
			}
		}
		if all {
			assert.Equal(t, bytes, from.n.Load())
		}
	})
}

// TestReadAheadFails: an error of a tile that was read ahead comes when the tile
// is asked for.
func TestReadAheadFails(t *testing.T) {
	cfg := tinyConfig(t, nil)
	src := random(cfg, 4)
	s, err := NewStreaming(cfg, src, 1<<20)
	require.NoError(t, err)
	m, err := New(cfg, s, Options{Threads: 2})
	require.NoError(t, err)
	src.data["model.layers.1.mlp.experts.3.up_proj.weight"] = nil
	ids := make([]int, 40)
	for i := range ids {
		ids[i] = i
	}
	_, err = m.Evaluate(context.Background(), [][]int{ids}, EvalOptions{})
	require.ErrorContains(t, err, "experts.3.up_proj")
}
