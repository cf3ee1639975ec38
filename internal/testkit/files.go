package testkit

import (
	"crypto/sha256"
	"encoding/hex"
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
