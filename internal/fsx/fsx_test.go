package fsx

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	require.NoError(t, os.WriteFile(TempName(path), []byte("left over"), 0o644))
	for _, text := range []string{"first", "", "second, longer"} {
		require.NoError(t, WriteFile(OS, path, []byte(text)))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, text, string(got))
	}
	assert.Equal(t, []string{"config.json"}, names(t, dir))

	err := WriteFile(OS, filepath.Join(dir, "absent", "f"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestTempNames(t *testing.T) {
	assert.Equal(t, filepath.Join("a", ".b.safetensors.glmconv-tmp"), TempName(filepath.Join("a", "b.safetensors")))
	for name, want := range map[string]bool{
		TempName("x"): true, TempName("a/b.json"): true, "a/.b.json.glmconv-tmp": true,
		"b.json.glmconv-tmp": false, ".b.json": false, ".glmconv-tmp": false, "": false, "..glmconv-tmp": false,
	} {
		assert.Equal(t, want, IsTemp(name), name)
	}
}

func TestRemoveTemps(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a.safetensors", ".a.safetensors.glmconv-tmp", ".keep"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), nil, 0o644))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".d.glmconv-tmp"), 0o755))
	removed, err := RemoveTemps(OS, dir)
	require.NoError(t, err)
	assert.Equal(t, []string{".a.safetensors.glmconv-tmp"}, removed)
	assert.Equal(t, []string{".d.glmconv-tmp", ".keep", "a.safetensors"}, names(t, dir))
}

func TestOS(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deep", "er", "f")
	require.NoError(t, OS.MkdirAll(filepath.Dir(path)))
	f, err := OS.Create(path)
	require.NoError(t, err)
	assert.Equal(t, path, f.Name())
	_, err = OS.Create(path)
	require.ErrorIs(t, err, fs.ErrExist)

	require.NoError(t, f.Preallocate(0))
	require.NoError(t, f.Preallocate(100))
	require.NoError(t, f.Preallocate(10), "never shortens")
	_, err = f.Write([]byte("head"))
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("tail"), 96)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	data, err := OS.ReadFile(path)
	require.NoError(t, err)
	require.Len(t, data, 100)
	assert.Equal(t, "head", string(data[:4]))
	assert.Equal(t, "tail", string(data[96:]))

	f, err = OS.Append(path)
	require.NoError(t, err)
	_, err = f.Write([]byte("more"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	st, err := OS.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, 104, st.Size())

	require.NoError(t, OS.Link(path, path+"2"))
	require.ErrorIs(t, OS.Link(path, path+"2"), fs.ErrExist)
	require.NoError(t, OS.Rename(path+"2", path+"3"))
	require.NoError(t, OS.Remove(path))
	require.NoError(t, OS.SyncDir(filepath.Dir(path)))
	require.Error(t, OS.SyncDir(path))
	entries, err := OS.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// TestFullDisk uses a real disk-full error where the platform has one.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if runtime.GOOS != "linux" && errors.Is(err, fs.ErrNotExist) {
		t.Skip("SKIPPED: " + runtime.GOOS + " has no /dev/full")
	}
	require.NoError(t, err)
	defer full.Close()
	_, err = osFile{full}.Write([]byte("x"))
	require.ErrorIs(t, err, syscall.ENOSPC)
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "lock")} {
		unlock, err := Lock(path)
		require.NoError(t, err)
		_, err = Lock(path)
		require.ErrorIs(t, err, ErrLocked)
		require.ErrorContains(t, err, path)
		require.NoError(t, unlock())
		unlock, err = Lock(path)
		require.NoError(t, err)
		require.NoError(t, unlock())
	}
	assert.Empty(t, names(t, dir), "unlock removes the lock file")
	_, err := Lock(filepath.Join(dir, "no", "lock"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestLockProcess: the lock holds against another process and ends with it.
func TestLockProcess(t *testing.T) {
	if dir := os.Getenv("FSX_TEST_LOCK"); dir != "" {
		if _, err := Lock(dir); err != nil {
			os.Exit(3)
		}
		os.Exit(0) // without unlocking
	}
	dir := t.TempDir()
	try := func() error {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLockProcess$")
		cmd.Env = append(os.Environ(), "FSX_TEST_LOCK="+dir)
		return cmd.Run()
	}
	require.NoError(t, try())
	unlock, err := Lock(dir)
	require.NoError(t, err, "the dead process must not keep the lock")
	var exit *exec.ExitError
	require.ErrorAs(t, try(), &exit)
	assert.Equal(t, 3, exit.ExitCode())
	require.NoError(t, unlock())
	require.NoError(t, try())
}

// TestLockExcludes lets many goroutines fight for a lock file that comes and
// goes; never two may hold it.
func TestLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var holders sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for got := 0; got < 50; {
				unlock, err := Lock(path)
				if errors.Is(err, ErrLocked) {
					continue
				}
				if !assert.NoError(t, err) {
					return
				}
				if !assert.True(t, holders.TryLock(), "two holders") {
					return
				}
				got++
				holders.Unlock()
				if !assert.NoError(t, unlock()) {
					return
				}
			}
		}()
	}
	wg.Wait()
}
