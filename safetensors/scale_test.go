package safetensors

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

// bigDir makes a checkpoint with the shard and tensor counts of a 744B model
// as sparse files: 1.5 TB that take no room.
func bigDir(tb testing.TB, shards, tensors int) string {
	dir := tb.TempDir()
	m := make(map[string]string, tensors)
	total := int64(0)
	for s := range shards {
		file := fmt.Sprintf("model-%05d-of-%05d.safetensors", s+1, shards)
		var specs []Spec
		for i := s * tensors / shards; i < (s+1)*tensors/shards; i++ {
			name := fmt.Sprintf("model.layers.%d.mlp.experts.%d.gate_proj.weight", i/768, i%768)
			specs = append(specs, Spec{name, BF16, []int64{2048, 6144}})
			m[name] = file
		}
		plan, err := PlanFile(file, specs, nil)
		require.NoError(tb, err)
		f, err := os.Create(filepath.Join(dir, file))
		require.NoError(tb, err)
		_, err = f.Write(plan.Header())
		require.NoError(tb, err)
		require.NoError(tb, f.Truncate(plan.Size))
		require.NoError(tb, f.Close())
		total += plan.Size - plan.HeaderSize()
	}
	require.NoError(tb, WriteIndex(fsx.OS, dir, IndexName, m, total))
	return dir
}

// TestBigCheckpoint opens 282 shards with 60,000 tensors and looks at what
// stays in memory.
func TestBigCheckpoint(t *testing.T) {
	const shards, tensors = 282, 60_000
	dir := bigDir(t, shards, tensors)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	c, err := OpenDir(dir)
	require.NoError(t, err)
	after := heap()
	require.Empty(t, c.Problems())
	require.Len(t, c.Names(), tensors)
	require.Len(t, c.Files(), shards)
	assert.Less(t, after-min(before, after), uint64(32<<20), "bytes kept")

	// The last row of the last tensor of the set lies beyond 1.5 TB in sum.
	last := c.tensors[tensors-1]
	row := make([]byte, last.RowSize())
	require.NoError(t, c.ReadRows(last.Name, 2047, 2048, row))
	require.NoError(t, c.Close())
}

func BenchmarkOpenDir(b *testing.B) {
	dir := bigDir(b, 282, 60_000)
	b.ReportAllocs()
	for b.Loop() {
		c, err := OpenDir(dir)
		require.NoError(b, err)
		require.NoError(b, c.Close())
	}
}

// BenchmarkOneHeader is the worst case, all tensors in one file.
func BenchmarkOneHeader(b *testing.B) {
	dir := bigDir(b, 1, 60_000)
	b.ReportAllocs()
	for b.Loop() {
		f, err := OpenFile(filepath.Join(dir, "model-00001-of-00001.safetensors"))
		require.NoError(b, err)
		require.NoError(b, f.Close())
	}
}
