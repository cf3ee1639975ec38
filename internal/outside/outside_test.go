package outside

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/testkit"
	// A result in the test cache is good as long as the packages that the module
	// uses are the same.
	_ "github.com/glmconv/glmconv/mtp"
	_ "github.com/glmconv/glmconv/quant/convert"
	_ "github.com/glmconv/glmconv/runtime/spec"
	_ "github.com/glmconv/glmconv/verify"
	_ "github.com/glmconv/glmconv/verify/report"
)

// TestStory runs the tests of the outside module. Dependencies come from the
// module cache, in the versions of this module; nothing is fetched.
func TestStory(t *testing.T) {
	module, model := t.TempDir(), filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, os.CopyFS(module, os.DirFS("testdata/story")))
	sums, err := os.ReadFile(filepath.Join(testkit.Root(), "go.sum"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(module, "go.sum"), sums, 0o600))
	require.NoError(t, demo.Extract(model))

	run := func(args ...string) string {
		cmd := exec.Command("go", args...)
		cmd.Dir = module
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off", "GOWORK=off", "GLMCONV_MODEL="+model)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %v\n%s", args, out)
		return string(out)
	}
	run("mod", "edit", "-replace", "github.com/glmconv/glmconv="+testkit.Root())
	run("vet", ".")
	out := run("test", "-count=1", "-v", ".")
	assert.NotContains(t, out, "SKIP")
	assert.Contains(t, out, "--- PASS: TestStory")
	assert.Contains(t, out, "--- PASS: TestErrors")
}

// TestStoryIsOutside: the module names public packages only.
func TestStoryIsOutside(t *testing.T) {
	files, err := filepath.Glob("testdata/story/*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.NotRegexp(t, regexp.MustCompile(`"[^"]*/internal/[^"]*"`), string(text), name)
	}
}
