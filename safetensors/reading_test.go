package safetensors

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

func TestReading(t *testing.T) {
	dir := t.TempDir()
	data := make([]byte, 24)
	for i := range data {
		data[i] = byte(i)
	}
	head := `{"s":{"dtype":"I32","shape":[],"data_offsets":[0,4]},"m":{"dtype":"U16","shape":[4,2],"data_offsets":[4,20]},` +
		`"e":{"dtype":"F32","shape":[3,0],"data_offsets":[20,20]},"n":{"dtype":"F4","shape":[2,3],"data_offsets":[20,23]},"v":{"dtype":"F4","shape":[1,2],"data_offsets":[23,24]}}`
	putFile(t, dir, SingleName, rawFile(head, data))
	c, err := OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	f, err := OpenFile(filepath.Join(dir, SingleName))
	require.NoError(t, err)
	defer f.Close()

	assert.Equal(t, dir, c.Dir())
	assert.Equal(t, filepath.Join(dir, SingleName), f.Path())
	assert.Equal(t, c.Files()[0].Size, f.Size())
	_, ok := c.TotalSize()
	assert.False(t, ok)
	assert.Empty(t, c.IndexName())

	for _, rows := range []func(string, int64, int64, []byte) error{c.ReadRows, f.ReadRows} {
		for _, r := range []struct {
			name   string
			lo, hi int64
			n      int
			want   []byte
			kind   error
		}{
			{"m", 0, 4, 16, data[4:20], nil},
			{"m", 1, 3, 8, data[8:16], nil},
			{"m", 4, 4, 0, nil, nil},
			{"e", 0, 3, 0, nil, nil},
			{"v", 0, 1, 1, data[23:24], nil},
			{"m", -1, 1, 8, nil, ErrRange},
			{"m", 2, 1, 0, nil, ErrRange},
			{"m", 3, 5, 8, nil, ErrRange},
			{"m", 0, 1, 3, nil, ErrRange},
			{"m", 0, 1, 5, nil, ErrRange},
			{"s", 0, 1, 4, nil, ErrShape},
			{"n", 0, 2, 3, nil, ErrDType},
			{"x", 0, 1, 1, nil, ErrNotFound},
		} {
			dst := make([]byte, r.n)
			err := rows(r.name, r.lo, r.hi, dst)
			if r.kind != nil {
				require.ErrorIs(t, err, r.kind, "%+v", r)
				require.ErrorContains(t, err, "tensor "+r.name)
				continue
			}
			require.NoError(t, err, "%+v", r)
			assert.True(t, bytes.Equal(r.want, dst), "%+v", r)
		}
	}

	m, ok := c.Info("m")
	require.True(t, ok)
	_, ok = c.Info("x")
	require.False(t, ok)
	p := make([]byte, 5)
	require.NoError(t, c.ReadAt(m, 11, p))
	assert.Equal(t, data[15:20], p)
	require.NoError(t, f.ReadTensor(m, 11, p))
	for _, off := range []int64{-1, 12, 16, 1 << 62, -1 << 63} {
		require.ErrorIs(t, c.ReadAt(m, off, p), ErrRange, "%d", off)
	}
	for _, bad := range []Info{{File: SingleName, Offset: 0, Size: 8}, {File: SingleName, Offset: m.Offset, Size: 1 << 62},
		{File: SingleName, Offset: 1 << 62, Size: 8}} {
		require.ErrorIs(t, c.ReadAt(bad, 0, p), ErrRange)
	}
	require.ErrorIs(t, c.ReadAt(Info{File: "y", Size: 9}, 0, p), ErrNotFound)

	all, err := io.ReadAll(c.Reader(m))
	require.NoError(t, err)
	assert.Equal(t, data[4:20], all)
	n, err := c.Reader(m).ReadAt(p, 14)
	assert.Equal(t, 2, n)
	assert.Equal(t, io.EOF, err)

	n, err = f.ReadAt(p, f.Size()-3)
	assert.Equal(t, 3, n)
	assert.Equal(t, io.EOF, err)
	_, err = f.ReadAt(p, -1)
	require.ErrorIs(t, err, ErrRange)

	require.NoError(t, c.Close())
	require.ErrorIs(t, c.ReadAt(m, 0, p), os.ErrClosed)
	require.NoError(t, f.Close())
	_, err = f.ReadAt(p, 0)
	require.ErrorIs(t, err, os.ErrClosed)
}

// TestChangedWhileInUse: a shard that shrinks is an error and no signal, one
// that is replaced is noticed when it is opened again.
func TestChangedWhileInUse(t *testing.T) {
	dir := goodDir(t)
	c, err := OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	b, _ := c.Info("b")
	path := filepath.Join(dir, one)
	p := make([]byte, 2)
	require.NoError(t, os.Truncate(path, b.Offset+1))
	err = c.ReadAt(b, 0, p)
	require.ErrorIs(t, err, ErrTruncated)
	require.ErrorContains(t, err, "tensor b ")

	cc, _ := c.Info("c")
	c.pool.mu.Lock()
	c.pool.drop(c.pool.m[two])
	c.pool.mu.Unlock()
	putFile(t, dir, "new", shardOf("x"))
	require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, two)))
	err = c.ReadAt(cc, 0, p)
	require.ErrorIs(t, err, ErrChanged)
	require.ErrorContains(t, err, "tensor c ")
	require.NoError(t, os.Remove(filepath.Join(dir, two)))
	require.ErrorIs(t, c.ReadAt(cc, 0, p), ErrNotFound)
}

// TestManyShards reads from more shards than may be open, concurrently.
func TestManyShards(t *testing.T) {
	dir := t.TempDir()
	const n = 3 * maxOpenFiles
	m := map[string]string{}
	for i := range n {
		name, file := fmt.Sprintf("%c%03d", 'a'+i%26, i), fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
		putFile(t, dir, file, shardOf(name))
		m[name] = file
	}
	require.NoError(t, WriteIndex(fsx.OS, dir, IndexName, m, 2*n))
	c, err := OpenDir(dir)
	require.NoError(t, err)
	assert.Empty(t, c.Problems())
	assert.LessOrEqual(t, len(c.pool.m), maxOpenFiles)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 2)
			for i := range 2 * n {
				info := c.tensors[(i*7+w*31)%n]
				if !assert.NoError(t, c.ReadRows(info.Name, 0, 2, p)) || !assert.Equal(t, info.Name[0], p[0]) {
					return
				}
				_ = c.Names()
			}
		}()
	}
	wg.Wait()
	assert.LessOrEqual(t, len(c.pool.m), maxOpenFiles+8)
	require.NoError(t, c.Close())
	assert.Empty(t, c.pool.m)
}
