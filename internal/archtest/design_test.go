package archtest

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var quoted = regexp.MustCompile("`([^`\n]+)`")

// goFiles lists the Go files below root by their paths in it, and the folders
// that have any.
func goFiles(t *testing.T, root string) (files []string, folders map[string]bool) {
	folders = map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && name != root && (base == "testdata" || base == "out" || strings.HasPrefix(base, ".")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, ".go") {
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			files = append(files, filepath.ToSlash(rel))
			folders[path.Dir(filepath.ToSlash(rel))] = true
		}
		return nil
	}))
	return files, folders
}

// TestDesignNamesWhatExists: the packages of the design's map, and the files and
// tests that it names, are there; every public package is in the map.
func TestDesignNamesWhatExists(t *testing.T) {
	const root = "../.."
	files, folders := goFiles(t, root)
	var tests strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			b, err := os.ReadFile(filepath.Join(root, f))
			require.NoError(t, err)
			tests.Write(b)
		}
	}
	raw, err := os.ReadFile(filepath.Join(root, "docs", "design.md"))
	require.NoError(t, err)
	text := string(raw)

	mapped := map[string]bool{}
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			mapped[m[1]] = true
			found := folders[m[1]]
			for f := range folders {
				found = found || strings.HasPrefix(f, m[1]+"/")
			}
			assert.True(t, found, "the map has package %s", m[1])
		}
	}
	require.Greater(t, len(mapped), 30)
	for f := range folders {
		if !strings.HasPrefix(f, "internal/") && !strings.HasPrefix(f, "interop") && f != "." {
			assert.True(t, mapped[f], "package %s is not in the map", f)
		}
	}

	named := 0
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		name := m[1]
		switch {
		case strings.HasSuffix(name, ".go"):
			named++
			assert.True(t, exists(files, name), "no file %s", name)
		case strings.HasPrefix(name, "Test"):
			named++
			assert.Contains(t, tests.String(), "func "+name+"(")
		}
	}
	require.Greater(t, named, 15)
}

// exists reports whether a pattern names the end of a file's path.
func exists(files []string, pattern string) bool {
	n := strings.Count(pattern, "/") + 1
	for _, f := range files {
		parts := strings.Split(f, "/")
		if len(parts) < n {
			continue
		}
		if ok, err := path.Match(pattern, strings.Join(parts[len(parts)-n:], "/")); err == nil && ok {
			return true
		}
	}
	return false
}
