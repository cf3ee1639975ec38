package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// citation is a page that a comment, a string or a link names.
type citation struct {
	file, page string
	sections   []string // "1.3"; none: the page as a whole
}

var (
	// cited is a page and the section numbers after it: "docs/facts/layouts.md
	// 1.3, 2.2 and 3", also through a link's bracket.
	cited = regexp.MustCompile("([\\w./-]*\\w\\.md)\\b(?:[`)\\]]*,? (?:sections? )?(\\d+(?:\\.\\d+)*(?:(?:, | and | to |[-–])\\d+(?:\\.\\d+)*)*))?")
	// numbered is a heading of a page with sections.
	numbered = regexp.MustCompile(`(?m)^#{1,6} (\d+(?:\.\d+)*)\.? `)
	section  = regexp.MustCompile(`\d+(?:\.\d+)*`)
)

// citationsIn finds the pages that text names.
func citationsIn(file, text string) []citation {
	text = strings.Join(strings.Fields(text), " ")
	var all []citation
	for _, m := range cited.FindAllStringSubmatchIndex(text, -1) {
		c := citation{file: file, page: text[m[2]:m[3]]}
		if m[4] >= 0 && !strings.HasPrefix(strings.TrimLeft(text[m[5]:], " "), "%") { // "97 %" is not a section
			c.sections = section.FindAllString(text[m[4]:m[5]], -1)
		}
		all = append(all, c)
	}
	return all
}

// goCitations are those of a Go file's comments, and of its string literals
// that name a page under docs.
func goCitations(file string, src []byte) ([]citation, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var all []citation
	for _, group := range f.Comments {
		all = append(all, citationsIn(file, group.Text())...)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		if s, err := strconv.Unquote(lit.Value); err == nil && strings.Contains(s, "docs/") {
			all = append(all, citationsIn(file, s)...)
		}
		return true
	})
	return all, nil
}

// problem says what is wrong with a citation in the repository root, or "".
func (c citation) problem(root fs.FS) string {
	page := c.page
	if beside := path.Join(path.Dir(c.file), page); strings.HasPrefix(beside, "docs/reference/") {
		return "" // written by internal/site; cmd/glmconv looks for dead links among them
	}
	text, err := fs.ReadFile(root, path.Clean(page))
	if err != nil {
		page = path.Join(path.Dir(c.file), c.page) // beside the citing file
		text, err = fs.ReadFile(root, page)
	}
	if err != nil {
		return "no such page"
	}
	has := map[string]bool{}
	for _, m := range numbered.FindAllSubmatch(text, -1) {
		has[string(m[1])] = true
	}
	for _, s := range c.sections {
		if !has[s] {
			return "no section " + s
		}
	}
	return ""
}

// repositoryCitations reads every text file of the repository: Go files by
// their comments, the others as a whole.
func repositoryCitations(root string) ([]citation, error) {
	var all []citation
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		base := filepath.Base(rel)
		if d.IsDir() {
			if base == ".git" || base == ".cache" || strings.HasPrefix(base, ".venv") || base == "testdata" || base == "out" || base == "bin" {
				return filepath.SkipDir
			}
			return nil
		}
		inCI := filepath.Base(filepath.Dir(rel)) == ".ci"
		switch ext := filepath.Ext(rel); {
		case !d.Type().IsRegular(), base == "citations_test.go": // which cites what is not there
			return nil
		case ext == ".go", ext == ".md", ext == ".py", ext == ".sh", ext == ".s", base == "Makefile", inCI:
		default:
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		found := citationsIn(filepath.ToSlash(rel), string(src))
		if filepath.Ext(rel) == ".go" {
			if found, err = goCitations(filepath.ToSlash(rel), src); err != nil {
				return err
			}
		}
		all = append(all, found...)
		return nil
	})
	return all, err
}
