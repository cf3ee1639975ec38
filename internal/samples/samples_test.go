package samples

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSamples applies every sample, builds the command with it, and so all
// packages that it is made of, and runs the test that the sample brings.
func TestSamples(t *testing.T) {
	tree, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, tc := range []struct {
		name  string
		most  int    // Go files
		tests string // the package of its test
	}{
		{"release", 1, "./quant/engine"},
		{"family", 8, "./internal/samples/..."},
		{"format", 14, "./internal/samples/..."},
		{"static", 12, "./internal/samples/..."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Read("testdata/"+tc.name+".txtar", tree)
			require.NoError(t, err)
			assert.NotEmpty(t, s.About)
			sources := s.Sources()
			assert.LessOrEqual(t, len(sources), tc.most, "%v", sources)
			overlay := "-overlay=" + write(t, tree, s)
			goRun(t, tree, "build", overlay, "-o="+filepath.Join(t.TempDir(), "glmconv"), "./cmd/glmconv")
			out := goRun(t, tree, "test", overlay, "-count=1", "-v", "-run=^TestSample$", tc.tests)
			assert.Contains(t, out, "--- PASS: TestSample")
		})
	}
}

// write puts a sample's files into a folder of their own and returns the
// overlay that lays them over the tree.
func write(t *testing.T, tree string, s *Sample) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	n := 0
	for name, data := range s.Files {
		n++
		path := filepath.Join(dir, strconv.Itoa(n)+"_"+filepath.Base(name))
		require.NoError(t, os.WriteFile(path, data, 0o666))
		replace[filepath.Join(tree, filepath.FromSlash(name))] = path
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	overlay := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlay, raw, 0o666))
	return overlay
}

func goRun(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %v:\n%s", args, out)
	return string(out)
}

// TestPatch: hunks that are not there, or there twice, are errors.
func TestPatch(t *testing.T) {
	for name, tc := range map[string]struct{ text, hunks, want string }{
		"added":             {"a\nb\nc\n", " a\n+x\n b\n", "a\nx\nb\nc\n"},
		"replaced":          {"a\nb\nc\n", "-b\n+y\n", "a\ny\nc\n"},
		"two hunks":         {"a\nb\nc\nd\n", "-a\n@@\n c\n+z\n", "b\nc\nz\nd\n"},
		"not there":         {"a\n", " b\n+x\n", ""},
		"twice":             {"a\na\n", " a\n+x\n", ""},
		"no line of a hunk": {"a\n", "a\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := patch(tc.text, tc.hunks)
			if tc.want == "" {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}
