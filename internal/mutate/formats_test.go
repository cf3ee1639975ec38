package mutate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

// withoutMTP copies a checkpoint and takes its MTP layer out, which the tools
// whose files stand in reference/foreign leave in states of all kinds. What lies
// beside the weights is that of another one.
func withoutMTP(t *testing.T, from, like string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.CopyFS(dir, os.DirFS(from)))
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o700)
	}))
	_, err := Edit(dir, func(s Set) (bool, error) {
		list := s.Names(func(n string) bool { return strings.HasPrefix(n, "model.layers.3.") })
		for _, n := range list {
			delete(s, n)
		}
		return len(list) > 0, nil
	})
	require.NoError(t, err)
	_, err = EditJSON(dir, configName, set(json.Number("0"), "num_nextn_predict_layers"))
	require.NoError(t, err)
	for _, name := range []string{tokenizerFile, tokenizerSets, generationFile} { // tools write them in words of their own
		raw, err := os.ReadFile(filepath.Join(like, name))
		require.NoError(t, err)
		require.NoError(t, swap(filepath.Join(dir, name), raw))
	}
	return dir
}

// TestMutationsOfPublishedFormats: files of every tool, as they came but for
// their MTP layers, pass, and every mutation of their formats is seen in them
// without a manifest.
func TestMutationsOfPublishedFormats(t *testing.T) {
	moe, dsa := testkit.Shared(t, "reference/nano-glm4moe"), testkit.Shared(t, "reference/nano-glm5")
	plain, applied := withoutMTP(t, moe, moe), map[string]int{}
	// A manifest gives the tail away.
	list := slices.DeleteFunc(append(All(), OfFormats()...), func(m Mutation) bool { return m.Name == "tail of a shard zeroed" })
	for dir, src := range map[string]string{
		"foreign/modelopt-nvfp4": plain, "foreign/modelopt-fp8": plain, "foreign/quark-mxfp4": plain, "foreign/awq": plain, "foreign/gptq-asym": plain,
		"foreign/gptq-int4-int8": plain, "foreign/autoround-gptq": plain, "foreign/autoround-mxfp4": plain,
		"nano-glm4moe-quantized/NVFP4A16": plain, "sources/nano-glm4moe-fp8": plain,
		"sources/nano-glm5-fp8": withoutMTP(t, dsa, dsa),
	} {
		good := withoutMTP(t, testkit.Shared(t, "reference/"+dir), src)
		r, err := verify.Static(t.Context(), src, good, verify.StaticOptions{})
		require.NoError(t, err)
		for _, f := range r.Failed { // asymmetric GPTQ is refused, and right
			require.Contains(t, f.Detail, "unsupported quantization config", "%s:\n%s", dir, report.Text(r))
		}
		suffer(t, dir, good, list, applied, func(t *testing.T, m Mutation, dir string) {
			r, err := verify.Static(t.Context(), src, dir, verify.StaticOptions{})
			if err != nil {
				require.True(t, hints(m, err.Error()), "%v", err)
				return
			}
			named(t, m, r)
		})
	}
	for _, m := range OfFormats() {
		assert.Positive(t, applied[m.Name], "%s applies to no file", m.Name)
	}
}

func hints(m Mutation, text string) bool { return Fault{Says: m.Says}.says(text) }

// TestMutationsOfFormats: the same in our own results, whatever became of the
// manifest.
func TestMutationsOfFormats(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	applied := map[string]int{}
	for _, c := range []struct {
		scheme layout.Scheme
		o      quant.Options
	}{
		{layout.NVFP4, quant.Options{}}, {layout.NVFP4A16, quant.Options{Arith: numeric.Compat, Rest: layout.RestSame}}, {layout.MXFP4, quant.Options{}},
		{layout.MXFP8, quant.Options{Rest: layout.RestSame}}, {layout.Int4Int8, quant.Options{GroupSize: 32}}, {layout.W4A16, quant.Options{GroupSize: 32}},
	} {
		good := resultOf(t, src, c.scheme, layout.CompressedTensors, c.o)
		raw, err := os.ReadFile(filepath.Join(good, manifestName))
		require.NoError(t, err)
		for _, state := range manifests {
			suffer(t, string(c.scheme)+" "+string(state), good, OfFormats(), applied, func(t *testing.T, m Mutation, dir string) {
				switch path := filepath.Join(dir, manifestName); state {
				case "kept":
					require.NoError(t, swap(path, raw))
				case "removed":
					require.NoError(t, os.Remove(path))
				}
				r, err := verify.Static(t.Context(), src, dir, verify.StaticOptions{})
				if err != nil {
					require.True(t, hints(m, err.Error()), "%v", err)
					return
				}
				named(t, m, r)
			})
		}
	}
}
