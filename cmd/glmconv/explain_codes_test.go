package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEveryExitCodeIsExplained: the constants of exit.go and the table have the
// same codes.
func TestEveryExitCodeIsExplained(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, 0)
	require.NoError(t, err)
	constants := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(v.Names[0].Name, "exit") && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.INT {
				constants[lit.Value] = true
			}
		}
		return true
	})
	require.Greater(t, len(constants), 5)
	listed := map[string]bool{}
	for _, e := range exits {
		listed[strconv.Itoa(e.code)] = true
		for _, text := range []string{e.means, e.cause, e.remedy} {
			assert.NotEmpty(t, text, e.code)
		}
	}
	assert.Equal(t, constants, listed)
}

// TestCodesAreUnique: no word stands for two codes.
func TestCodesAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, e := range explanations() {
		assert.Empty(t, seen[e.Code], e.Code)
		seen[e.Code] = e.Of
	}
}
