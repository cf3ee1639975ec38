package declaration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// corpus reads every configuration of testdata: results of glmconv, of
// llm-compressor, ModelOpt, Quark, auto-round and their like, and the forms of
// published checkpoints.
func corpus(t testing.TB) map[string]*declaration.Declaration {
	t.Helper()
	paths, err := filepath.Glob("testdata/configs/*.json")
	require.NoError(t, err)
	out := map[string]*declaration.Declaration{}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		name := filepath.Base(p)
		read := declaration.Config
		for _, f := range declaration.Files {
			if strings.HasSuffix(name, "."+f) {
				read = func(raw []byte) (*declaration.Declaration, error) { return declaration.File(f, raw) }
			}
		}
		d, err := read(raw)
		require.NoError(t, err, name)
		out[name] = d
	}
	require.Greater(t, len(out), 40)
	return out
}

func modules(t testing.TB) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/modules.json")
	require.NoError(t, err)
	var m map[string][]string
	require.NoError(t, json.Unmarshal(raw, &m))
	return m
}

// arguments are QuantizationArgs as compressed-tensors read them.
type arguments struct {
	Bits      int    `json:"num_bits"`
	Type      string `json:"type"`
	Symmetric bool   `json:"symmetric"`
	Group     *int   `json:"group_size"`
	Strategy  string `json:"strategy"`
	Block     []int  `json:"block_structure"`
	Dynamic   any    `json:"dynamic"`
	Order     any    `json:"actorder"`
	Scale     any    `json:"scale_dtype"`
}

// TestCompressedTensorsAgrees compares with what the real library read and
// matched (interop/record_declarations.py).
func TestCompressedTensorsAgrees(t *testing.T) {
	raw, err := os.ReadFile("testdata/answers.json")
	require.NoError(t, err)
	var recorded struct {
		Configs map[string]struct {
			Groups map[string]struct {
				Weights, Input *arguments
			}
			Cache   *arguments
			Modules map[string]map[string][]int
		}
	}
	require.NoError(t, json.Unmarshal(raw, &recorded))
	all, names := corpus(t), modules(t)
	require.Greater(t, len(recorded.Configs), 25)
	for file, want := range recorded.Configs {
		t.Run(file, func(t *testing.T) {
			d := all[file]
			require.NotNil(t, d)
			require.Len(t, d.Groups, len(want.Groups))
			for i := range d.Groups {
				g := &d.Groups[i]
				w, ok := want.Groups[g.Name]
				require.True(t, ok, g.Name)
				compareWeight(t, w.Weights, g.Weights)
				compareActivation(t, w.Input, g.Input)
			}
			if assert.Equal(t, want.Cache != nil, d.Cache != nil) && d.Cache != nil {
				compareActivation(t, want.Cache, d.Cache.Form)
			}
			for model, groups := range want.Modules {
				for group, at := range groups {
					for _, i := range at {
						assert.Equal(t, group, answer(d.Of(names[model][i])), names[model][i])
					}
				}
			}
		})
	}
}

func answer(s declaration.Scheme) string {
	switch {
	case s.Ignored != nil:
		return "ignored"
	case s.Group == nil:
		return ""
	}
	return s.Group.Name
}

func compareWeight(t *testing.T, want *arguments, got format.Weight) {
	t.Helper()
	if want == nil {
		assert.False(t, got.Quantized())
		return
	}
	assert.Equal(t, want.Type, map[format.Type]string{format.Int: "int", format.Float: "float"}[got.Type])
	assert.Equal(t, want.Bits, got.Bits)
	assert.Equal(t, want.Strategy, got.Strategy.String())
	assert.Equal(t, want.Symmetric, !got.ZeroPoints)
	if want.Strategy == "group" || want.Strategy == "tensor_group" {
		assert.Equal(t, *want.Group, got.Group)
	}
	if want.Block != nil {
		assert.Equal(t, want.Block, []int{got.BlockRows, got.BlockCols})
	}
}

func compareActivation(t *testing.T, want *arguments, got format.Activation) {
	t.Helper()
	if want == nil {
		assert.False(t, got.Quantized())
		return
	}
	assert.Equal(t, want.Bits, got.Bits)
	assert.Equal(t, want.Strategy, got.Strategy.String())
	assert.Equal(t, want.Symmetric, !got.ZeroPoints)
	assert.Equal(t, fmt.Sprint(want.Dynamic), map[format.When]string{format.Dynamic: "true", format.Static: "false", format.Local: "local"}[got.When])
}

// TestCorpusIsUnderstood: real declarations have no unknown key and break no
// rule; what is not supported in them is known by name.
func TestCorpusIsUnderstood(t *testing.T) {
	notSupported := map[string]string{
		"published-overlap.json": "",
	}
	for file, d := range corpus(t) {
		t.Run(file, func(t *testing.T) {
			var unsupported []string
			for _, p := range d.Problems {
				if p.Kind == declaration.Unsupported {
					unsupported = append(unsupported, p.Path)
					continue
				}
				t.Errorf("%s: %s", p.Kind, p)
			}
			assert.ElementsMatch(t, strings.Fields(notSupported[file]), unsupported)
			assert.NoError(t, d.PatternError())
			assert.True(t, d.Method.Known())
		})
	}
}
