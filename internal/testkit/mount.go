package testkit

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/glmconv/glmconv/source"
)

// Mount has a folder read as a source that is none of the disk, for the length of a
// test, and returns its name.
func Mount(tb testing.TB, dir string) string {
	tb.Helper()
	f := folder{dir}
	unmount, err := source.Mount(context.Background(), f)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(unmount)
	return f.Name()
}

// folder is a source of the files of a folder.
type folder struct{ dir string }

func (f folder) Name() string           { return "mem://" + filepath.ToSlash(filepath.Clean(f.dir)) }
func (f folder) Pinned() (string, bool) { return "", false }

func (f folder) List(context.Context) (out []source.Entry, err error) {
	entries, err := os.ReadDir(f.dir)
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			return nil, err
		}
		out = append(out, source.Entry{Name: e.Name(), Size: st.Size(), Version: "1"})
	}
	return out, err
}

func (f folder) Open(_ context.Context, name string) (source.File, error) {
	b, err := os.ReadFile(filepath.Join(f.dir, name))
	return source.Bytes(source.Entry{Name: name, Size: int64(len(b)), Version: "1"}, b), err
}

func (f folder) ReadSmall(_ context.Context, name string, _ int64) ([]byte, error) {
	return os.ReadFile(filepath.Join(f.dir, name))
}
