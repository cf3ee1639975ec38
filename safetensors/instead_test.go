package safetensors

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWhatLiesInPlaceOfAShard: the hint says what a file is that is none of
// safetensors.
func TestWhatLiesInPlaceOfAShard(t *testing.T) {
	for content, want := range map[string]string{
		"<!DOCTYPE html><html><head>":                     "HTML",
		"\n  <html>":                                      "HTML",
		`{"error":"Repository not found"}`:                "JSON",
		"\x1f\x8b\x08\x00\x10\x20\x30\x40abc":             "gzip",
		"\x28\xb5\x2f\xfd\x04\x00\x00\xff":                "zstd",
		"PK\x03\x04\x14\x00\x00\x08\x08":                  "ZIP",
		"GGUF\x03\x00\x00\x00\x10":                        "GGUF",
		"version https://git-lfs.github.com/spec/v1\noid": "LFS",
		"/annex/objects/SHA256E-s1--00":                   "git-annex",
		"\xff\xff\xff\xff\xff\xff\xff\xff":                "probably not a safetensors file",
	} {
		path := filepath.Join(t.TempDir(), "model.safetensors")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		_, err := OpenDir(filepath.Dir(path))
		var e *Error
		require.ErrorAs(t, err, &e, content)
		assert.Contains(t, e.Hint(), want, content)
	}
}
