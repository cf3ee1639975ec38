package verify

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestChecksAreThoseThatFail: every check that a verdict can name is in the table,
// and the table has no other.
func TestChecksAreThoseThatFail(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	named := map[string]bool{Unmeasured: true}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 3 {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "fail" {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
				check, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				named[check] = true
			}
			return true
		})
	}
	require.Greater(t, len(named), 5)
	listed := map[string]bool{}
	for _, c := range Checks() {
		listed[c.Name] = true
		for _, text := range []string{c.Means, c.Cause, c.Remedy} {
			assert.NotEmpty(t, text, c.Name)
		}
	}
	assert.Equal(t, named, listed)
}
