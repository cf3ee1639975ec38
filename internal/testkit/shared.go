// Package testkit holds what the tests of several packages share: finding the
// reference checkpoints that lie beside the project.
package testkit

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Root returns the absolute path of the project's root folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Shared returns the absolute path of name below the folder ../shared, which
// holds the reference checkpoints and the specification. Where it is absent
// the test is skipped with a message, or fails if GLMCONV_REQUIRE_SHARED=1
// (continuous integration).
func Shared(tb testing.TB, name string) string {
	tb.Helper()
	path := filepath.Join(filepath.Dir(Root()), "shared", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("GLMCONV_REQUIRE_SHARED") == "1" {
			tb.Fatalf("../shared/%s is required here and missing: %v", name, err)
		}
		tb.Skipf("SKIPPED: needs ../shared/%s, which is not beside this checkout", name)
	}
	return path
}

// Beside returns the absolute path of a folder next to the project's root.
func Beside(name string) string { return filepath.Join(filepath.Dir(Root()), name) }
