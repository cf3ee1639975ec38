package calib

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

// TestReadHoldsNoMoments: statistics of many experts stay in their files, parts are
// joined when they are asked for, and Close gives the files back.
func TestReadHoldsNoMoments(t *testing.T) {
	const experts, cols, rows = 128, 64, samples
	r := rand.New(rand.NewPCG(8, 8))
	dir, size, want := t.TempDir(), int64(0), (*Moments)(nil)
	name := func(e int) string { return fmt.Sprintf("model.layers.1.mlp.experts.%d.down_proj.weight", e) }
	for part := range 2 {
		st := &Statistics{Source: "a", Sequences: [][]int{{part, 2}}, First: part, held: map[string]*Moments{}, Caches: map[string]*Limits{}}
		for e := range experts {
			m := newMoments(cols)
			for i := range rows {
				x := make([]float32, cols)
				for c := range x {
					x[c] = float32(r.NormFloat64())
				}
				m.add(x)
				m.sample(x, keyOf(part, i))
			}
			st.held[name(e)] = m
		}
		require.NoError(t, st.Write(fsx.OS, dir, part+1, 2))
		info, err := os.Stat(filepath.Join(dir, PartName(part+1, 2)))
		require.NoError(t, err)
		size += info.Size()
		want = joined(want, st.held[name(7)])
	}
	require.Greater(t, size, int64(16<<20))

	before := inUse()
	st, err := Read(dir)
	require.NoError(t, err)
	assert.Less(t, inUse()-before, size/8)
	assert.Len(t, st.Names(), experts)
	got, err := st.Moments(name(7))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Len(t, got.Sample(), rows*cols)
	bare, err := st.moments(name(7), false)
	require.NoError(t, err)
	assert.Equal(t, want.MeanSquare(), bare.MeanSquare())
	assert.Empty(t, bare.rows)
	none, err := st.Moments(name(experts))
	require.NoError(t, err)
	assert.Nil(t, none)

	require.NoError(t, st.Close())
	require.NoError(t, os.Remove(filepath.Join(dir, PartName(1, 2))), "an open file cannot be removed everywhere")
	gone, err := st.Moments(name(7))
	require.NoError(t, err)
	assert.Nil(t, gone)
}

// inUse is what lives on the heap.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSampleThatBreaks: a file that is cut after it was opened is an error where its
// samples are asked for.
func TestSampleThatBreaks(t *testing.T) {
	const cols, name = 64, "model.layers.1.mlp.down_proj.weight"
	m := newMoments(cols)
	for i := range 40 {
		x := make([]float32, cols)
		m.add(x)
		m.sample(x, keyOf(0, i))
	}
	dir := t.TempDir()
	st := &Statistics{Source: "a", Sequences: [][]int{{1, 2}}, held: map[string]*Moments{name: m}, Caches: map[string]*Limits{}}
	require.NoError(t, st.Write(fsx.OS, dir, 1, 1))
	path := filepath.Join(dir, PartName(1, 1))
	st, err := Read(dir)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	for cut := info.Size() - 1; cut > info.Size()-5000; cut -= 500 {
		require.NoError(t, os.Truncate(path, cut))
		if _, err = st.Moments(name); err != nil {
			break
		}
	}
	require.Error(t, err)
	require.NoError(t, st.Close())
}
