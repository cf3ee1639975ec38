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
		"<!DOCTYPE html><html><head>":                          "HTML",
		"\n  <html>":                                           "HTML",
		`{"error":"Repository not found"}`:                     "JSON",
		"\x1f\x8b\x08\x00\x10\x20\x30\x40abc":                  "gzip",
		"\x1f\x8b\x08\x00\x00\x00\x00\x00 a length, too":       "gzip",
		"\x80\x02}q\x00X\x06\x00":                              "pickle",
		"\x80\x02\x00\x00\x00\x00\x00\x00{\"a header of 640\"": "download",
		"\x20\x7b\x00\x00\x00\x00\x00\x00{\"of 31,520":         "download",
		"\x3c\x00\x00\x00\x00\x00\x00\x00{\"of 60":             "download",
		"\x28\xb5\x2f\xfd\x04\x00\x00\xff":                     "zstd",
		"PK\x03\x04\x14\x00\x00\x08\x08":                       "ZIP",
		"PK\x03\x04\x00\x00\x00\x00 a length that could be":    "ZIP",
		"# xet version 0\nfilesize = 5":                        "Xet",
		"GGUF\x03\x00\x00\x00\x10":                             "GGUF",
		"version https://git-lfs.github.com/spec/v1\noid":      "LFS",
		"/annex/objects/SHA256E-s1--00":                        "git-annex",
		"\xff\xff\xff\xff\xff\xff\xff\xff":                     "probably not a safetensors file",
	} {
		path := filepath.Join(t.TempDir(), "model.safetensors")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		_, err := OpenDir(filepath.Dir(path))
		var e *Error
		require.ErrorAs(t, err, &e, content)
		assert.Contains(t, e.Hint(), want, content)
	}
}

// TestShardsOneFolderDown: a directory without shards names the folders in it
// that hold some.
func TestShardsOneFolderDown(t *testing.T) {
	for name, tc := range map[string]struct {
		folders []string
		want    string
	}{
		"nowhere":                 {[]string{"optional"}, "give the directory that holds config.json and the shards"},
		"in a folder":             {[]string{"optional", "weights/model.safetensors"}, "weight files are in weights"},
		"of processes of one job": {[]string{"rank_0/a.safetensors", "rank_1/b.safetensors"}, "rank_0, rank_1 hold weight files"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tc.folders {
				if filepath.Ext(f) == "" {
					f += "/config.json"
				}
				require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, f), nil, 0o644))
			}
			_, err := OpenDir(dir)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, ErrNotFound)
			assert.Contains(t, e.Hint(), tc.want)
		})
	}
}
