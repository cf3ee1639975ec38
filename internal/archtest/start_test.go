package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNothingIsCompiledAtStart: no package of the program compiles a pattern or
// parses a template before main, where every command would wait for it; see
// package lazy.
func TestNothingIsCompiledAtStart(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}|{{.Dir}}|{{join .GoFiles " "}}{{end}}`, module+"cmd/glmconv").Output()
	require.NoError(t, err)
	seen := 0
	for line := range strings.Lines(string(out)) {
		parts := strings.Split(strings.TrimSpace(line), "|")
		if len(parts) != 3 || !strings.HasPrefix(parts[0], module) {
			continue
		}
		for _, name := range strings.Fields(parts[2]) {
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, filepath.Join(parts[1], name), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			seen++
			for _, call := range atStart(f) {
				assert.Fail(t, "compiled before main", "%s calls %s", set.Position(call.Pos()), callee(call))
			}
		}
	}
	require.Greater(t, seen, 200)
}

// atStart returns the calls that compile a pattern or a template among the
// initial values of a file's variables.
func atStart(f *ast.File) (calls []*ast.CallExpr) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		ast.Inspect(g, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return false // runs when it is called
			case *ast.CallExpr:
				if slices.Contains([]string{"regexp.MustCompile", "regexp.MustCompilePOSIX", "regexp2.MustCompile", "template.Must"}, callee(n)) {
					calls = append(calls, n)
				}
			}
			return true
		})
	}
	return calls
}

// callee names the function of a call, "" if it is no function of a package.
func callee(c *ast.CallExpr) string {
	if s, ok := c.Fun.(*ast.SelectorExpr); ok {
		if p, ok := s.X.(*ast.Ident); ok {
			return p.Name + "." + s.Sel.Name
		}
	}
	return ""
}

func TestAtStart(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
var a = regexp.MustCompile("a")
var b = []*regexp.Regexp{regexp.MustCompile("b")}
var c = func() *regexp.Regexp { return regexp.MustCompile("c") }
var d = lazy.Regexp("d")
var e = template.Must(template.New("e").Parse("e"))
func f() { regexp.MustCompile("f") }
`, 0)
	require.NoError(t, err)
	var found []string
	for _, c := range atStart(f) {
		found = append(found, callee(c))
	}
	assert.Equal(t, []string{"regexp.MustCompile", "regexp.MustCompile", "template.Must"}, found)
}
