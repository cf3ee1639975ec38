package endpoint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/serve"
	"github.com/glmconv/glmconv/verify"
)

// converted is a result of a folder.
func converted(t *testing.T, src string, scheme layout.Scheme, format layout.Format) string {
	t.Helper()
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	plan, err := quant.NewPlan(c, scheme, format, quant.Options{})
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "result")
	_, err = convert.Run(t.Context(), plan, c, dst, convert.Options{Workers: 2, Version: "test"})
	require.NoError(t, err)
	return dst
}

// copyOf links the files of a folder into a new one.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "damaged")
	require.NoError(t, os.Mkdir(out, 0o750))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Type().IsRegular() {
			require.NoError(t, os.Link(filepath.Join(dir, e.Name()), filepath.Join(out, e.Name())))
		}
	}
	return out
}

// quick are the mutations that every run tries; GLMCONV_TORTURE tries all.
var quick = []string{"scale is its reciprocal", "nibbles swapped", "codes negated", "head is the embedding", "config rotates all of a head",
	"scales in another order", "gate and up swapped", "experts 0 and 1 swapped", "scale transposed", "halves of eh_proj swapped", "router bias rounded to BF16", "scale for 240 instead of 448", "norm with one flipped bit", "scale_bias wrong",
	"NaN scale", "router quantised"}

// TestDamagedCopies: a server of a damaged copy is never taken for right. Asked
// with the copy, the file is blamed in the words of its damage; asked with the
// good folder, the server is.
func TestDamagedCopies(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	pairs := []struct {
		scheme layout.Scheme
		format layout.Format
	}{{layout.W4A16, layout.CompressedTensors}}
	if os.Getenv("GLMCONV_TORTURE") != "" {
		pairs = append(pairs, pairs[0], pairs[0])
		pairs[1].scheme = layout.W8A8
		pairs[2].scheme, pairs[2].format = layout.W4A8, layout.Ascend
	}
	tried, right := 0, 0
	for _, pair := range pairs {
		good := converted(t, src, pair.scheme, pair.format)
		for _, m := range mutate.All() {
			if os.Getenv("GLMCONV_TORTURE") == "" && !slices.Contains(quick, m.Name) {
				continue
			}
			dir := copyOf(t, good)
			applies, err := m.Apply(dir)
			require.NoError(t, err)
			if !applies {
				continue
			}
			model, err := runtime.Load(dir, runtime.Options{Threads: 1})
			if err != nil {
				continue // no engine loads it
			}
			_ = model.Close()
			t.Run(string(pair.scheme)+" "+m.Name, func(t *testing.T) {
				url := live(t, dir, serve.Options{})
				r, err := Verify(t.Context(), src, dir, few(url))
				require.NoError(t, err)
				tried++
				if assert.Equal(t, verify.Fail, r.Verdict, r.Text()) && r.Fault == FileFault &&
					slices.ContainsFunc(m.Says, func(word string) bool { return strings.Contains(r.Text(), word) || strings.Contains(details(r), word) }) {
					right++
				} else {
					t.Logf("not named:\n%s", r.Text())
				}
				if os.Getenv("GLMCONV_TORTURE") == "" && signs[m.Name] == "" {
					return
				}
				o := few(url)
				r, err = Verify(t.Context(), good, "", o)
				if err != nil { // the server cannot compute the copy, and says so
					assert.ErrorContains(t, err, "status 500: the model ")
					return
				}
				if moves(r) {
					assert.Equal(t, verify.Fail, r.Verdict, r.Text())
				}
				if word := signs[m.Name]; word != "" {
					assert.Contains(t, r.Cause, word)
					assert.Equal(t, EngineFault, r.Fault)
				}
			})
		}
	}
	t.Logf("%d of %d damaged copies named", right, tried)
	require.Positive(t, tried)
	assert.GreaterOrEqual(t, float64(right), 0.9*float64(tried))
}

// moves reports whether a damage shows in what the server says.
func moves(r *Result) bool { return r.Servers[0].Figures.KL > 1e-2 }

// signs are the words for damages that the runtime can imitate.
var signs = map[string]string{"head is the embedding": "in place of lm_head", "config rotates all of a head": "partial_rotary_factor"}

func details(r *Result) string {
	var b strings.Builder
	for _, f := range r.Failed {
		b.WriteString(f.Where + " " + f.Detail + "\n")
	}
	return b.String()
}

// TestWhose: the original in place of the result, another model, and faults of
// engines that the runtime can imitate.
func TestWhose(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dir := converted(t, src, layout.W4A16, layout.CompressedTensors)
	t.Run("right", func(t *testing.T) {
		r, err := Verify(t.Context(), src, dir, few(live(t, dir, serve.Options{})))
		require.NoError(t, err)
		assert.Equal(t, NoFault, r.Fault, r.Text())
		assert.NotEqual(t, verify.Fail, r.Verdict, r.Text())
	})
	t.Run("the original", func(t *testing.T) {
		o := few(live(t, src, serve.Options{}))
		r, err := Verify(t.Context(), src, dir, o)
		require.NoError(t, err)
		assert.Equal(t, verify.Fail, r.Verdict)
		assert.Equal(t, OtherModel, r.Fault, r.Text())
		assert.Contains(t, r.Cause, "serves the original")
	})
	t.Run("router bias lost", func(t *testing.T) {
		f := newFake(t, src)
		for i := range faults {
			x := &faults[i]
			if !strings.Contains(x.name, "router bias") && !strings.Contains(x.name, "shared experts") && !strings.Contains(x.name, "not scaled") {
				continue
			}
			m, err := openModel(src, 1, 64<<20, x)
			require.NoError(t, err)
			if !x.applies(m.Config()) {
				m.close()
				continue
			}
			good := f.m
			f.m = m.Model
			f.max = m.Config().VocabSize
			r, err := Verify(t.Context(), src, "", few(f.serve(f.vllm())))
			require.NoError(t, err)
			f.m = good
			m.close()
			assert.Equal(t, verify.Fail, r.Verdict, r.Text())
			assert.Equal(t, EngineFault, r.Fault)
			assert.Contains(t, r.Cause, x.name)
		}
	})
}
