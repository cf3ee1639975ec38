package learn

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// folder makes files in a folder.
type folder struct {
	dir    string
	failAt int // which access fails; 0: none
	mu     sync.Mutex
	n      int // accesses
	open   int
}

var errBroken = errors.New("a broken disk")

type folderFile struct {
	*os.File
	of *folder
}

func (f *folder) Create(bytes int64) (File, error) {
	x, err := os.CreateTemp(f.dir, "")
	if err != nil {
		return nil, err
	}
	f.open++
	return folderFile{x, f}, x.Truncate(bytes)
}

func (f *folder) step() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.n == f.failAt {
		return errBroken
	}
	return nil
}

func (f folderFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.of.step(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f folderFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.of.step(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f folderFile) Close() error {
	f.of.open--
	return errors.Join(f.File.Close(), os.Remove(f.Name()))
}

// learnt are codes of w, from moments in a room, or in memory.
func learnt(t *testing.T, room *Room, spec numeric.Spec, n, rows, together int, w *kernel.Workers) (*numeric.Matrix, Loss, error) {
	x, weights := data(700, n, rows, 3)
	float, _ := data(700, n, 1, 4)
	for i := range float {
		float[i] = x[i] + 0.1*float[i]
	}
	few, _ := data(300, n, 1, 5)
	gram := func(x, float []float32) *Gram {
		g := NewGram(n, true)
		if room != nil {
			g = NewGramIn(n, true, *room)
		}
		for g.Next(w) {
			for lo := 0; lo < len(x)/n; lo += 113 {
				hi := min(lo+113, len(x)/n)
				g.Add(x[lo*n:hi*n], float[lo*n:hi*n], hi-lo, w)
			}
		}
		return g
	}
	prior, own := gram(x, float), gram(few, few)
	prior.Finish(w)
	own.Shrink(prior, 512, w)
	own.Finish(w)
	gone := prior.Close()
	b, err := NewBasis(own, Options{}, together, w)
	if err != nil {
		return nil, Loss{}, errors.Join(gone, err)
	}
	m, loss, err := b.Solve(spec, weights, rows, w)
	return m, loss, errors.Join(gone, err, b.Close())
}

// TestFilesChangeNoBit: moments and factors in files give the codes of those in memory,
// however much of them is in memory at a time.
func TestFilesChangeNoBit(t *testing.T) {
	const rows = 200
	for _, c := range []struct {
		name     string
		n        int
		spec     string
		together int // rows that share the basis
	}{
		{"a width of whole tiles", 512, "int4 signed", 100},
		{"another width, and a target for all rows at once", 333, "int4 channel", 1000},
		{"blocks of rows", 384, "fp8 block", 1000},
		{"scales of a byte", 352, "MXFP4", 100},
		{"one tile", 96, "int8 channel", 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			four := &kernel.Workers{N: 4}
			want, loss, err := learnt(t, nil, specs[c.spec], c.n, rows, c.together, four)
			require.NoError(t, err)
			for _, bytes := range []int64{1, 200 << 10, 64 << 20} {
				dir := &folder{dir: t.TempDir()}
				got, found, err := learnt(t, &Room{Files: dir, Bytes: bytes}, specs[c.spec], c.n, rows, c.together, four)
				require.NoError(t, err)
				assert.Equal(t, want.Codes, got.Codes, bytes)
				assert.Equal(t, want.Scales, got.Scales, bytes)
				assert.Equal(t, want.ScaleCodes, got.ScaleCodes, bytes)
				assert.Equal(t, loss, found, bytes)
				assert.Zero(t, dir.open)
				left, err := filepath.Glob(filepath.Join(dir.dir, "*"))
				require.NoError(t, err)
				assert.Empty(t, left)
			}
		})
	}
}

// TestFilesThatBreak: an error of any file ends the work, and no file stays.
func TestFilesThatBreak(t *testing.T) {
	count := &folder{dir: t.TempDir()}
	one := &kernel.Workers{N: 1}
	run := func(f *folder) error {
		_, _, err := learnt(t, &Room{Files: f, Bytes: 1}, specs["int8 channel"], 96, 50, 1000, one)
		return err
	}
	require.NoError(t, run(count))
	for at := 1; at <= count.n; at += 1 + count.n/40 {
		f := &folder{dir: t.TempDir(), failAt: at}
		err := run(f)
		require.ErrorIs(t, err, errBroken, at)
		assert.Zero(t, f.open, at)
	}
}
