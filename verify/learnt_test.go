package verify_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify"
)

// TestPublishedCodesAreNearest: other tools' files that were rounded to nearest
// are held to that, zero points and scales of every kind included, or to the
// tool's own rounding where it is known.
func TestPublishedCodesAreNearest(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	for _, name := range []string{"autoround-gptq", "autoround-mxfp4", "awq", "gptq-asym", "gptq-int4-int8", "modelopt-fp8", "modelopt-nvfp4", "quark-mxfp4"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, text := static(t, src, testkit.Shared(t, "reference/foreign/"+name))
			assert.Positive(t, r.Oracle.Modules)
			assert.True(t, r.Oracle.Computed || r.Oracle.Nearest == r.Oracle.Modules, text)
			for _, f := range r.Failed {
				assert.NotEqual(t, "oracle", f.Check, "%v", f)
			}
		})
	}
}

// TestNoiseIsNotLearnt: without a manifest, codes that are not the nearest are
// those of a method that learns, or noise. Neither gets a mark that it has not
// earned.
func TestNoiseIsNotLearnt(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	find := func(list []mutate.Fault, name string) mutate.Fault {
		i := slices.IndexFunc(list, func(f mutate.Fault) bool { return f.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		return list[i]
	}
	for name, good := range map[string]bool{"codes learnt from data": true, "noise of 2 %": false, "noise of 0.3 steps": false} {
		for _, scheme := range []quant.Scheme{layout.W4A16, layout.NVFP4A16, layout.MXFP4A16} {
			t.Run(name+"/"+string(scheme), func(t *testing.T) {
				t.Parallel()
				dst := convertAs(t, src, scheme, layout.CompressedTensors, quant.Options{})
				hit, err := find(append(mutate.Faults(), mutate.Benign()...), name).Apply(mutate.Made{Source: src, Dir: dst})
				require.NoError(t, err)
				require.True(t, hit)
				require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
				r, text := static(t, src, dst)
				assert.False(t, r.Oracle.Computed)
				assert.Less(t, r.Oracle.Nearest, r.Oracle.Modules)
				if good {
					assert.Equal(t, verify.Pass, r.Verdict, text)
					assert.Contains(t, text, "oracle     not measured")
					assert.Contains(t, r.Oracle.Basis, "learnt from data")
				} else {
					assert.Equal(t, verify.Fail, r.Verdict, text)
					assert.Contains(t, text, "nothing shows that they were learnt")
				}
			})
		}
	}
}
