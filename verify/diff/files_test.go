package diff

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestFilesOfFolders: what lies in folders, weight files that no index names, and
// links that lead nowhere are files as others.
func TestFilesOfFolders(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm4moe")
	extra := "model-extra.safetensors"
	put := func(dir, name, text string) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	}
	link := func(dir, name, to string) { require.NoError(t, os.Symlink(to, filepath.Join(dir, name))) }
	for _, tc := range []struct {
		name string
		make func(a, b string)
		want []File
	}{
		{"the same", func(a, b string) {
			for _, d := range []string{a, b} {
				put(d, "optional/quarot.safetensors", "1")
				put(d, extra, "1")
				link(d, "gone.txt", "nowhere")
			}
		}, []File{}},
		{"in a folder", func(a, b string) {
			put(a, "optional/quarot.safetensors", "1")
			put(b, "optional/quarot.safetensors", "2")
		},
			[]File{{"optional/quarot.safetensors", "changed"}}},
		{"a folder more", func(_, b string) { put(b, "optional/deep/quarot.safetensors", "1") }, []File{{"optional/deep/quarot.safetensors", "added"}}},
		{"a shard that no index names", func(a, b string) { put(a, extra, "1"); put(b, extra, "2") }, []File{{extra, "changed"}}},
		{"a shard more", func(a, _ string) { put(a, extra, "1") }, []File{{extra, "removed"}}},
		{"a link that leads nowhere", func(a, b string) { link(a, "gone.txt", "nowhere"); put(b, "gone.txt", "here") }, []File{{"gone.txt", "changed"}}},
		{"links to two places", func(a, b string) { link(a, "gone.txt", "nowhere"); link(b, "gone.txt", "elsewhere") }, []File{{"gone.txt", "changed"}}},
		{"state of a tool", func(a, _ string) { put(a, ".cache/huggingface/x", "1") }, []File{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := t.TempDir(), t.TempDir()
			for _, d := range []string{a, b} {
				require.NoError(t, os.CopyFS(d, os.DirFS(dir)))
			}
			tc.make(a, b)
			r := run(t, a, b)
			assert.Equal(t, tc.want, r.Files)
			assert.Equal(t, len(tc.want) > 0, r.Different)
		})
	}
}
