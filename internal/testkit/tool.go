package testkit

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Tool returns the path of a program that a test runs. Without it the test is
// skipped as [Absent] does it; lost is what is not tried then.
func Tool(tb testing.TB, name, lost string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Absent(tb, name, "it is not installed: "+lost)
	}
	return path
}

// Absent skips a test with a message, since a program cannot be used, or fails it
// if GLMCONV_REQUIRE_TOOLS, names with commas between them, has the program
// (continuous integration).
func Absent(tb testing.TB, name, why string) {
	tb.Helper()
	if slices.Contains(strings.Split(os.Getenv("GLMCONV_REQUIRE_TOOLS"), ","), name) {
		tb.Fatalf("%s is required here: %s", name, why)
	}
	tb.Skipf("SKIPPED: %s: %s", name, why)
}
