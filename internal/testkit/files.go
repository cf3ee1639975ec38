package testkit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Files reads every file below dir, by its path from there.
func Files(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[rel] = string(raw)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Size is how many bytes the files of a folder have, without those of folders in it.
func Size(tb testing.TB, dir string) (n int64) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			tb.Fatal(err)
		}
		if !e.IsDir() {
			n += st.Size()
		}
	}
	return n
}

// Result is Files of a result, without the section of its manifest that says
// where a remote source was: the rest is the same for every source.
func Result(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	out := Files(tb, dir)
	const name = "glmconv-manifest.json"
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(out[name]), &m); err != nil {
		tb.Fatal(err)
	}
	delete(m, "source")
	raw, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	out[name] = string(raw)
	return out
}

// FileSums is Files with the SHA-256 of each in place of its content.
func FileSums(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	out := Files(tb, dir)
	for name, text := range out {
		sum := sha256.Sum256([]byte(text))
		out[name] = hex.EncodeToString(sum[:])
	}
	return out
}
