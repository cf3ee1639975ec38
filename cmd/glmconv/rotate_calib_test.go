package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestRotatedStatisticsInFiles: the statistics of a rotated model are in files of
// the scratch folder while it is converted, whatever the memory the result has the
// same bytes, and nothing stays but the folds that were found.
func TestRotatedStatisticsInFiles(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm5")
	dir := t.TempDir()
	stats := filepath.Join(dir, "stats")
	require.Equal(t, exitOK, quiet(t, []string{"calibrate", "--progress", "none", "--tokens", "600", "--seq-len", "32", src, stats}))
	for _, c := range []struct{ name, method string }{{"searched scales", "search"}, {"learnt codes", "gptq"}} {
		t.Run(c.name, func(t *testing.T) {
			var want map[string]string
			for _, memory := range []string{"1GiB", "146MiB"} {
				dst, scratch := filepath.Join(t.TempDir(), "dst"), filepath.Join(t.TempDir(), "scratch")
				require.Equal(t, exitOK, quiet(t, []string{"quantize", "--progress", "none", "--scheme", "w4a8", "--format", "ascend", "--rotate", "--calib", stats,
					"--method", c.method, "--scratch", scratch, "--max-memory", memory, src, dst}))
				got := testkit.FileSums(t, dst)
				if want == nil {
					want = got
				}
				assert.Equal(t, want, got)
				left, err := os.ReadDir(scratch)
				require.NoError(t, err)
				require.Len(t, left, 1)
				assert.Regexp(t, `^folds-[0-9a-f]{12}$`, left[0].Name())
			}
		})
	}
}
