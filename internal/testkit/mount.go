package testkit

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/glmconv/glmconv/source"
)

// Mount has a folder read as a source that is none of the disk, for the length of a
// test.
func Mount(tb testing.TB, dir string) *Mounted {
	tb.Helper()
	m := &Mounted{dir: dir, opens: map[string]int{}}
	unmount, err := source.Mount(context.Background(), m)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(unmount)
	return m
}

// Mounted is a source of the files of a folder.
type Mounted struct {
	dir string

	mu    sync.Mutex
	opens map[string]int
}

// Opens is how often each file was opened.
func (m *Mounted) Opens() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.opens)
}

// Name is what the folder is read as.
func (m *Mounted) Name() string { return "mem://" + filepath.ToSlash(filepath.Clean(m.dir)) }

// Pinned is that of a source without commits.
func (m *Mounted) Pinned() (string, bool) { return "", false }

// List lists the files of the folder.
func (m *Mounted) List(context.Context) (out []source.Entry, err error) {
	entries, err := os.ReadDir(m.dir)
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			return nil, err
		}
		out = append(out, source.Entry{Name: e.Name(), Size: st.Size(), Version: "1"})
	}
	return out, err
}

// Open opens a file, all of which it reads.
func (m *Mounted) Open(_ context.Context, name string) (source.File, error) {
	b, err := os.ReadFile(filepath.Join(m.dir, name))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opens[name]++
	return source.Bytes(source.Entry{Name: name, Size: int64(len(b)), Version: "1"}, b), err
}

// ReadSmall reads a file.
func (m *Mounted) ReadSmall(_ context.Context, name string, _ int64) ([]byte, error) {
	return os.ReadFile(filepath.Join(m.dir, name))
}
