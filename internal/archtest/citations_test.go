package archtest

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCitedPagesExist: every page that a comment or a page cites is in the
// repository, with the sections cited.
func TestCitedPagesExist(t *testing.T) {
	const root = "../.."
	all, err := repositoryCitations(root)
	require.NoError(t, err)
	facts := 0
	for _, c := range all {
		if strings.HasPrefix(c.page, "docs/facts/") && len(c.sections) > 0 {
			facts++
		}
		assert.Empty(t, c.problem(os.DirFS(root)), "%s cites %s %s", c.file, c.page, strings.Join(c.sections, ", "))
	}
	require.Greater(t, facts, 50, "citations of facts with a section")
}

func TestCitations(t *testing.T) {
	root := fstest.MapFS{
		"docs/facts/layouts.md": {Data: []byte("# Layouts\n\n## 1. One\n\n### 1.3 Tensors\n\n## 2. Two\n")},
		"docs/plain.md":         {Data: []byte("# Plain\n")},
	}
	for _, test := range []struct {
		name, file, text string
		want             []string // problems
	}{
		{"a section", "a.go", "(docs/facts/layouts.md 1.3).", []string{""}},
		{"a section at the end", "a.go", "as docs/facts/layouts.md 1.3.", []string{""}},
		{"several sections", "a.go", "docs/facts/layouts.md 1.3, 2 and 1 say so", []string{""}},
		{"across a line", "a.go", "docs/facts/layouts.md\n1.3", []string{""}},
		{"a section that is missing", "a.go", "(docs/facts/layouts.md 1.4)", []string{"no section 1.4"}},
		{"the second is missing", "a.go", "(docs/facts/layouts.md 1.3, 7; docs/plain.md)", []string{"no section 7", ""}},
		{"a page outside", "a.go", "(layouts.md 1.3)", []string{"no such page"}},
		{"a page above the root", "a.go", "../shared/layouts.md 1.3", []string{"no such page"}},
		{"no sections in the page", "a.go", "docs/plain.md 2)", []string{"no section 2"}},
		{"a link beside the page", "docs/facts/a.md", "[layouts.md](layouts.md) 1.5,", []string{"", "no section 1.5"}},
		{"a link beside the citing page", "docs/b.md", "[facts](facts/layouts.md)", []string{""}},
		{"a figure, not a section", "a.go", "docs/plain.md 97 % of it", []string{""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, c := range citationsIn(test.file, test.text) {
				got = append(got, c.problem(root))
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestGoCitations(t *testing.T) {
	src := "package p\n\n// A is B (docs/facts/layouts.md\n// 1.3).\nvar a = \"docs/facts/formats.md 9\"\n\nvar b = \"README.md\"\n"
	got, err := goCitations("p.go", []byte(src))
	require.NoError(t, err)
	assert.Equal(t, []citation{
		{"p.go", "docs/facts/layouts.md", []string{"1.3"}},
		{"p.go", "docs/facts/formats.md", []string{"9"}},
	}, got)
}
