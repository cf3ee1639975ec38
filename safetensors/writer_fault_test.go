package safetensors

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

// TestWriterFaults fails each operation in turn, once and for good, with and
// without a short write: the error is typed, names the file and carries the
// cause; nothing stands under the final name that is not complete, and nothing
// temporary is left as long as removing works.
func TestWriterFaults(t *testing.T) {
	plan, data := testPlan(t)
	for _, mode := range []struct{ Short, Sticky bool }{{}, {Short: true}, {Sticky: true}, {Short: true, Sticky: true}} {
		steps := 0
		for n := 1; ; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, plan.Name)
			fsys := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.ENOSPC, Short: mode.Short, Sticky: mode.Sticky}
			_, err := writeAll(fsys, dir, plan, data, 400)
			if !fsys.Hit() {
				require.NoError(t, err)
				break
			}
			steps++
			what := fmt.Sprintf("operation %d, %s", n, fsys.Ops()[n-1])
			require.ErrorIs(t, err, syscall.ENOSPC, what)
			require.ErrorIs(t, err, ErrIO, what)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, path, e.File, what)
			last := strings.HasPrefix(fsys.Ops()[n-1], "syncdir")
			if got, rerr := os.ReadFile(path); last {
				require.NoError(t, rerr)
				assert.Equal(t, append(bytes.Clone(plan.Header()), data...), got, what)
			} else {
				assert.ErrorIs(t, rerr, os.ErrNotExist, what)
			}
			if !mode.Sticky {
				_, serr := os.Stat(fsx.TempName(path))
				assert.ErrorIs(t, serr, os.ErrNotExist, what)
			}
		}
		// create, preallocate, header, 4 chunks, sync, close, rename, syncdir
		assert.Equal(t, 11, steps)
	}
}

func TestWriterNamesTensor(t *testing.T) {
	plan, data := testPlan(t)
	for n, want := range map[int]string{4: "tensor a cannot be written", 6: "tensor a cannot be written", 7: "tensor b cannot be written"} {
		fsys := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.EIO}
		_, err := writeAll(fsys, t.TempDir(), plan, data, 400)
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, err, syscall.EIO)
	}
}

// TestWriterPowerCut cuts the power at each operation and lets the machine
// forget what it may: a file under its final name is always whole, and it is
// there if Commit returned.
func TestWriterPowerCut(t *testing.T) {
	plan, data := testPlan(t)
	want := append(bytes.Clone(plan.Header()), data...)
	for _, loss := range []fsx.Loss{{Data: 1}, {Names: 1}, {Data: 1, Names: 1}, {Data: .5, Names: .5, Seed: 3}} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, plan.Name)
			fsys := &fsx.Faulty{FS: fsx.OS, CutAt: n}
			_, err := writeAll(fsys, dir, plan, data, 400)
			cut := fsys.Hit()
			require.NoError(t, fsys.Crash(loss))
			got, rerr := os.ReadFile(path)
			if rerr == nil {
				require.Equal(t, want, got)
			}
			// Whatever is there, the run after it succeeds.
			_, err2 := writeAll(fsx.OS, dir, plan, data, 1000)
			require.NoError(t, err2)
			if !cut {
				require.NoError(t, err)
				require.NoError(t, rerr)
				break
			}
			require.ErrorIs(t, err, fsx.ErrPowerCut)
		}
	}
}

// TestIndexFaults: WriteIndex leaves the old index or the new one.
func TestIndexFaults(t *testing.T) {
	for n := 1; ; n++ {
		dir := t.TempDir()
		require.NoError(t, WriteIndex(fsx.OS, dir, IndexName, map[string]string{"a": one}, 1))
		before, err := os.ReadFile(filepath.Join(dir, IndexName))
		require.NoError(t, err)
		fsys := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.EDQUOT}
		err = WriteIndex(fsys, dir, IndexName, map[string]string{"a": two}, 2)
		if !fsys.Hit() {
			require.NoError(t, err)
			break
		}
		require.ErrorIs(t, err, syscall.EDQUOT)
		require.ErrorIs(t, err, ErrIO)
		require.ErrorContains(t, err, filepath.Join(dir, IndexName))
		after, rerr := os.ReadFile(filepath.Join(dir, IndexName))
		require.NoError(t, rerr)
		if !strings.HasPrefix(fsys.Ops()[n-1], "syncdir") {
			assert.Equal(t, string(before), string(after))
		}
	}
}
