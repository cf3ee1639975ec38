// Package testkit holds what the tests of several packages share: finding the
// reference checkpoints that lie beside the project.
package testkit

import (
	"archive/zip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Root returns the absolute path of the project's root folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Shared returns the absolute path of name below the folder ../shared, which
// holds the reference checkpoints and the specification. Where it is absent,
// nano-glm5 and its goldens come from the project; for anything else the test is
// skipped with a message, or fails if GLMCONV_REQUIRE_SHARED=1 (continuous
// integration).
func Shared(tb testing.TB, name string) string {
	tb.Helper()
	path := filepath.Join(filepath.Dir(Root()), "shared", filepath.FromSlash(name))
	_, err := os.Stat(path)
	if err == nil {
		return path
	}
	if os.Getenv("GLMCONV_REQUIRE_SHARED") == "1" {
		tb.Fatalf("../shared/%s is required here and missing: %v", name, err)
	}
	if path := builtIn(tb, name); path != "" {
		return path
	}
	tb.Skipf("SKIPPED: needs ../shared/%s, which is not beside this checkout", name)
	return ""
}

// builtIn returns what the project has of ../shared: the model of `glmconv
// demo`, unpacked, and its goldens in testdata.
func builtIn(tb testing.TB, name string) string {
	if name == "reference/nano-glm5" {
		dir := filepath.Join(tb.TempDir(), "nano-glm5")
		z, err := zip.OpenReader(filepath.Join(Root(), "internal", "demo", "nano-glm5.zip"))
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = z.Close() }()
		if err := os.CopyFS(dir, z); err != nil {
			tb.Fatal(err)
		}
		return dir
	}
	if golden, ok := strings.CutPrefix(name, "reference/golden/"); ok {
		if path := filepath.Join(Root(), "testdata", "golden", filepath.FromSlash(golden)); exists(path) {
			return path
		}
	}
	return ""
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// Beside returns the absolute path of a folder next to the project's root.
func Beside(name string) string { return filepath.Join(filepath.Dir(Root()), name) }
