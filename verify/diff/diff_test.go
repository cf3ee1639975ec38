package diff

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

func run(t *testing.T, a, b string) *Report {
	t.Helper()
	var last, total int64
	r, err := Run(context.Background(), a, b, Options{Workers: 2, Progress: func(d, n int64, detail string) {
		assert.Equal(t, "weights", detail)
		assert.GreaterOrEqual(t, d, last)
		last, total = d, n
	}})
	require.NoError(t, err)
	assert.Equal(t, total, last, "progress does not end at its total")
	raw, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"schema":"glmconv.diff/1"`)
	return r
}

// edit copies a checkpoint into a fresh directory, one shard, with each tensor
// passed through fn: nil data leaves it out.
func edit(t *testing.T, dir string, fn func(s safetensors.Spec, data []byte) (safetensors.Spec, []byte)) string {
	t.Helper()
	out := t.TempDir()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if strings.Contains(e.Name(), ".safetensors") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(out, e.Name()), raw, 0o644))
	}
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	type tensor struct {
		s safetensors.Spec
		d []byte
	}
	var list []tensor
	for _, x := range c.Tensors() {
		data, err := io.ReadAll(c.Reader(x))
		require.NoError(t, err)
		s, data := fn(safetensors.Spec{Name: x.Name, DType: x.DType, Shape: slices.Clone(x.Shape)}, data)
		if data != nil {
			list = append(list, tensor{s, data})
		}
	}
	slices.SortStableFunc(list, func(a, b tensor) int { return b.s.DType.Bits() - a.s.DType.Bits() }) // alignment
	specs := make([]safetensors.Spec, len(list))
	for i, x := range list {
		specs[i] = x.s
	}
	plan, err := safetensors.PlanFile(safetensors.SingleName, specs, nil)
	require.NoError(t, err)
	w, err := safetensors.Create(fsx.OS, out, plan)
	require.NoError(t, err)
	for _, x := range list {
		_, err := w.Write(x.d)
		require.NoError(t, err)
	}
	_, err = w.Commit()
	require.NoError(t, err)
	return out
}

func TestSame(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm5")
	r := run(t, dir, dir)
	assert.False(t, r.Different)
	assert.Positive(t, r.Same)
	assert.Contains(t, r.Text(), "SAME")
	// Another cut into shards is no difference.
	copied := edit(t, dir, func(s safetensors.Spec, d []byte) (safetensors.Spec, []byte) { return s, d })
	r = run(t, dir, copied)
	assert.False(t, r.Different, r.Text())
}

func TestEachKind(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm4moe")
	const gone, bits, wide, cut = "model.norm.weight", "lm_head.weight", "model.layers.1.mlp.gate.weight", "model.layers.0.input_layernorm.weight"
	other := edit(t, dir, func(s safetensors.Spec, d []byte) (safetensors.Spec, []byte) {
		switch s.Name {
		case gone:
			return s, nil
		case bits:
			d[1] ^= 0x80 // the sign of the first value
		case wide:
			s.DType = safetensors.F32
			f := make([]byte, 2*len(d))
			for i := 0; i < len(d); i += 2 {
				copy(f[2*i+2:], d[i:i+2])
			}
			d = f
		case cut:
			s.Shape[0]--
			d = d[:len(d)-2]
		case "model.embed_tokens.weight":
			s.Name = "model.renamed.weight"
		}
		return s, d
	})
	r := run(t, dir, other)
	names := func(list []Tensor) (out []string) {
		for _, x := range list {
			out = append(out, x.Name)
		}
		return
	}
	assert.True(t, r.Different)
	assert.Equal(t, []string{"model.embed_tokens.weight", gone}, names(r.Removed))
	assert.Equal(t, []string{"model.renamed.weight"}, names(r.Added))
	assert.Equal(t, []string{bits}, names(r.Changed))
	assert.Equal(t, []string{wide}, names(r.Retyped))
	assert.Equal(t, []string{cut}, names(r.Reshaped))
	figures := map[string]Module{}
	for _, m := range r.Modules {
		figures[m.Name] = m
	}
	require.Len(t, figures, 3)
	assert.Zero(t, figures["model.layers.1.mlp.gate"].Relative, "widening loses nothing")
	assert.Equal(t, "F32", figures["model.layers.1.mlp.gate"].B.String())
	assert.NotEmpty(t, figures["model.layers.0.input_layernorm"].Why)
	head := figures["lm_head"]
	assert.Positive(t, head.Relative)

	// The same figure, computed from the raw bytes.
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	info, _ := c.Info(bits)
	raw, err := io.ReadAll(c.Reader(info))
	require.NoError(t, err)
	sum, first := 0.0, 0.0
	for i := 0; i < len(raw); i += 2 {
		v := float64(math.Float32frombits(uint32(raw[i])<<16 | uint32(raw[i+1])<<24))
		if i == 0 {
			first = v
		}
		sum += v * v
	}
	assert.InDelta(t, 2*math.Abs(first), float64(head.MaxAbs), 0)
	assert.InEpsilon(t, math.Sqrt(4*first*first/sum), float64(head.Relative), 1e-12)
	text := r.Text()
	for _, want := range []string{"DIFFERENT", "model.renamed.weight", "relative RMS", "BF16 → F32"} {
		assert.Contains(t, text, want)
	}
}

// TestAcrossLayouts compares the source with its quantised forms, and those
// with each other: the error figures must be those of the schemes
// (docs/facts/layouts.md 4: FP8 about 0.0265, int4 about 0.1).
func TestAcrossLayouts(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	for _, tc := range []struct {
		dir    string
		lo, hi float64
	}{{"FP8_DYNAMIC", 0.02, 0.03}, {"W4A8", 0.08, 0.15}} {
		r := run(t, src, testkit.Shared(t, "reference/nano-glm4moe-quantized/"+tc.dir))
		require.NotEmpty(t, r.Modules)
		for _, m := range r.Modules {
			assert.Empty(t, m.Why, m.Name)
			assert.Greater(t, float64(m.Relative), tc.lo, m.Name)
			assert.Less(t, float64(m.Relative), tc.hi, m.Name)
		}
		assert.Len(t, r.Added, len(r.Modules), "one scale a weight")
		assert.Len(t, r.Retyped, len(r.Modules))
		assert.Empty(t, r.Changed)
		assert.Empty(t, r.Removed)
		assert.Contains(t, r.Files, File{"config.json", "changed"})
	}
	r := run(t, testkit.Shared(t, "reference/nano-glm4moe-quantized/FP8_DYNAMIC"), testkit.Shared(t, "reference/nano-glm4moe-quantized/W4A8"))
	require.NotEmpty(t, r.Modules)
	assert.Equal(t, "fp8 channel", r.Modules[0].A.String())
	assert.Contains(t, r.Modules[0].B.String(), "int4")
}

// TestStackedExperts compares per-expert tensors with the same weights stacked
// as transformers v5 saves them.
func TestStackedExperts(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm4moe")
	const prefix = "model.layers.1.mlp.experts."
	parts := map[string][]byte{}
	edit(t, dir, func(s safetensors.Spec, d []byte) (safetensors.Spec, []byte) {
		if strings.HasPrefix(s.Name, prefix) {
			parts[s.Name] = d
		}
		return s, d
	})
	stacked := edit(t, dir, func(s safetensors.Spec, d []byte) (safetensors.Spec, []byte) {
		rest, ok := strings.CutPrefix(s.Name, prefix)
		switch {
		case !ok:
		case rest == "0.down_proj.weight":
			h, m := s.Shape[0], s.Shape[1]
			s.Name, s.Shape = prefix+"down_proj", []int64{8, h, m}
			d = nil
			for e := range 8 {
				d = append(d, parts[prefix+string(rune('0'+e))+".down_proj.weight"]...)
			}
		case rest == "0.gate_proj.weight":
			m, h := s.Shape[0], s.Shape[1]
			s.Name, s.Shape = prefix+"gate_up_proj", []int64{8, 2 * m, h}
			d = nil
			for e := range 8 {
				d = append(d, parts[prefix+string(rune('0'+e))+".gate_proj.weight"]...)
				d = append(d, parts[prefix+string(rune('0'+e))+".up_proj.weight"]...)
			}
			if d[5] ^= 0x80; d == nil { // one sign in expert 0's gate
				t.Fatal("empty")
			}
		default:
			return s, nil
		}
		return s, d
	})
	r := run(t, dir, stacked)
	require.Len(t, r.Removed, 24)
	require.Len(t, r.Added, 2)
	require.Len(t, r.Modules, 24)
	assert.Equal(t, prefix+"0.gate_proj", r.Modules[0].Name)
	assert.Positive(t, r.Modules[0].Relative)
	assert.Equal(t, "stacked BF16", r.Modules[0].B.String())
	for _, m := range r.Modules[1:] {
		assert.Zero(t, m.Relative, m.Name)
	}
}

func TestUnreadable(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm5")
	_, err := Run(context.Background(), dir, t.TempDir(), Options{})
	require.Error(t, err)
	_, err = Run(context.Background(), filepath.Join(dir, "absent"), dir, Options{})
	require.Error(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Run(ctx, dir, dir, Options{})
	require.ErrorIs(t, err, context.Canceled)
}

// TestMalformedWeight: one weight of B that holds no codes is that weight's
// difference; in A it is bad input.
func TestMalformedWeight(t *testing.T) {
	sound := testkit.Shared(t, "reference/nano-glm4moe-quantized/W4A8")
	const name = "model.layers.1.self_attn.o_proj"
	damaged := edit(t, sound, func(s safetensors.Spec, d []byte) (safetensors.Spec, []byte) {
		if s.Name == name+".weight" {
			d = append([]byte{100}, d[1:]...)
		}
		return s, d
	})
	r := run(t, sound, damaged)
	require.Len(t, r.Modules, 1)
	assert.Equal(t, name, r.Modules[0].Name)
	assert.Contains(t, r.Modules[0].Why, "100")
	_, err := Run(t.Context(), damaged, sound, Options{})
	require.ErrorIs(t, err, layout.ErrMalformed)
}

func TestWithoutValues(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	r, err := Run(context.Background(), src, testkit.Shared(t, "reference/nano-glm4moe-quantized/W4A8"), Options{NoValues: true})
	require.NoError(t, err)
	assert.True(t, r.Different)
	assert.Empty(t, r.Modules)
}

func TestFigureJSON(t *testing.T) {
	for v, want := range map[Figure]string{0.5: "0.5", Figure(math.Inf(1)): "null", 0: "0"} {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		assert.Equal(t, want, string(raw))
	}
}

// TestStackedCodes: codes of stacked experts are not compared as numbers, and
// end no comparison.
func TestStackedCodes(t *testing.T) {
	dir := testkit.Shared(t, "reference/nano-glm4moe")
	const prefix = "model.layers.1.mlp.experts."
	for _, d := range []safetensors.DType{safetensors.F8E4M3, safetensors.I8, safetensors.U8} {
		stacked := edit(t, dir, func(s safetensors.Spec, data []byte) (safetensors.Spec, []byte) {
			rest, ok := strings.CutPrefix(s.Name, prefix)
			switch {
			case !ok:
				return s, data
			case rest == "0.down_proj.weight":
				s.Name, s.DType, s.Shape = prefix+"down_proj", d, []int64{8, s.Shape[0], s.Shape[1]}
			case rest == "0.gate_proj.weight":
				s.Name, s.DType, s.Shape = prefix+"gate_up_proj", d, []int64{8, 2 * s.Shape[0], s.Shape[1]}
			default:
				return s, nil
			}
			return s, make([]byte, s.Bytes())
		})
		r := run(t, dir, stacked)
		require.Len(t, r.Modules, 24)
		for _, m := range r.Modules {
			assert.Contains(t, m.Why, "stacked experts", m.Name)
		}
	}
}
