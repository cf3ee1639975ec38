// Package archtest holds tests of the project's structure.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/glmconv/glmconv/"

// layer gives each package its place, that of the longest name that it begins
// with; a package may import only packages of a lower place (or of its own tree).
// See docs/design.md.
func layer(pkg string) int {
	place, length := -1, 0
	for i, prefixes := range [][]string{
		{"internal/lazy"},
		{"source"},
		{"internal/cpu", "internal/bytesum", "internal/fsx", "internal/share"},
		{"internal/undo", "internal/jsonobj", "internal/jsonwalk", "internal/rss", "internal/demo", "internal/safetext", "internal/progress", "quant/numeric", "runtime/tokenizer"},
		{"safetensors"},
		{"glm"},
		{"internal/synth"},
		{"mtp"},
		{"quant/fold", "quant/format"},
		{"quant/declaration"},
		{"quant/engine", "quant/layout"},
		{"quant"},
		{"quant/convert"},
		{"internal/mutate"},
		{"runtime/kernel"},
		{"runtime"},
		{"calib"},
		{"verify"},
		{"repair", "recipe", "bench"},
		{"serve"},
		{"internal/reach"},
		{"cmd", "internal/fakes", "internal/torture", "internal/bench", "internal/interop", "internal/outside", "internal/samples", "internal/site"},
	} {
		for _, p := range prefixes {
			if pkg == p || strings.HasPrefix(pkg, p+"/") {
				if len(p) > length {
					place, length = i, len(p)
				}
			}
		}
	}
	return place
}

// forbidden are pairs that the order of layers would allow.
var forbidden = map[string][]string{
	"runtime":        {"quant"}, // may read layouts and numbers, never the converter
	"runtime/kernel": {"quant", "quant/layout"},
}

// converts are the packages that carry conversions out; what judges a result, or
// prepares one, does without.
var converts = []string{"cmd/glmconv", "internal/mutate", "internal/bench/quantize", "internal/bench/kernels", "internal/bench/verify"}

func TestImportsPointOneWay(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := cmd.Output()
	require.NoError(t, err)
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		from := strings.TrimPrefix(p.ImportPath, module)
		if from == "internal/testkit" || from == "internal/archtest" {
			continue
		}
		seen++
		require.GreaterOrEqual(t, layer(from), 0, "package %s has no place in the import order", from)
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if to == "internal/testkit" {
				t.Errorf("%s imports the test helpers outside tests", from)
			}
			sameTree := strings.HasPrefix(from, to+"/") || strings.HasPrefix(to, from+"/")
			assert.True(t, layer(to) < layer(from) || layer(to) == layer(from) && (sameTree || layer(from) > 0), "%s must not import %s", from, to)
			for _, f := range forbidden[from] {
				assert.NotEqual(t, f, to, "%s must not import %s", from, to)
			}
			assert.False(t, to == "internal/reach" && layer(from) < layer("cmd"), "%s must not import %s: only the command knows addresses", from, to)
			assert.False(t, to == "quant/convert" && !slices.Contains(converts, from), "%s must not import %s: it does not convert", from, to)
			if strings.HasPrefix(from, "quant") {
				assert.False(t, strings.HasPrefix(to, "runtime"), "%s must not import %s", from, to)
			}
		}
	}
	require.Greater(t, seen, 5)
}
