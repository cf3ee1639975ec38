package verify_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// staticFolder is nano-glm4moe in static W8A8 for Ascend.
func staticFolder(t *testing.T) string {
	ranges := map[string]quant.Range{}
	for _, m := range []string{"q_proj", "k_proj", "v_proj", "o_proj"} {
		ranges["model.layers.1.self_attn."+m] = quant.Range{Lo: -6, Hi: 5}
	}
	return convertAs(t, testkit.Shared(t, "reference/nano-glm4moe"), quant.W8A8, layout.Ascend, quant.Options{Ranges: ranges})
}

// What belongs to the source's own quantization is no weight that a result in
// another form must have.
func TestAuxiliaryOfSource(t *testing.T) {
	scale := func(s mutate.Set, like, name string) {
		y := *s[like]
		y.Name, y.DType, y.Shape, y.Data = name, safetensors.F32, []int64{1}, []byte{0, 0, 0, 0x3f}
		s[name] = &y
	}
	for name, c := range map[string]struct {
		source func(t *testing.T) string
		notes  string
	}{
		"static W8A8 of Ascend": {source: staticFolder},
		"caches and idle scales": {source: func(t *testing.T) string {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(testkit.Shared(t, "reference/sources/nano-glm4moe-fp8"))))
			_, err := mutate.Edit(dir, func(s mutate.Set) (bool, error) {
				scale(s, "model.norm.weight", "model.layers.0.self_attn.k_proj.k_scale")
				scale(s, "model.norm.weight", "model.layers.0.self_attn.attn.v_scale")
				scale(s, "model.norm.weight", "model.layers.0.self_attn.o_proj.input_scale")
				scale(s, "model.norm.weight", "model.layers.1.mlp.gate.input_scale")
				return true, nil
			})
			require.NoError(t, err)
			return dir
		}, notes: "v_scale"},
	} {
		t.Run(name, func(t *testing.T) {
			src := c.source(t)
			dst := convertTo(t, src, layout.BF16, "")
			require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName))) // which lists them
			r, text := static(t, src, dst)
			require.NotEqual(t, verify.Fail, r.Verdict, text)
			assert.Zero(t, r.Exact.Lost, text)
			if c.notes != "" {
				assert.Contains(t, text, c.notes)
			}
		})
	}
}

// Of other tools' folders too: what is said of a model that they were made of is of
// values, and of no tensor that belongs to codes.
func TestAuxiliaryOfOtherTools(t *testing.T) {
	dst := testkit.Shared(t, "reference/nano-glm4moe")
	for _, name := range []string{"foreign/modelopt-fp8", "foreign/modelopt-nvfp4", "foreign/gptq-asym", "foreign/awq", "foreign/quark-mxfp4", "foreign/autoround-gptq", "nano-glm4moe-quantized/W4A8"} {
		t.Run(name, func(t *testing.T) {
			r, text := static(t, testkit.Shared(t, "reference/"+name), dst)
			assert.Zero(t, r.Exact.Lost, text)
		})
	}
}

// A copy of a quantized folder has its scales of inputs too.
func TestChangedScaleOfInput(t *testing.T) {
	src := staticFolder(t)
	dst := t.TempDir()
	require.NoError(t, os.CopyFS(dst, os.DirFS(src)))
	_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
		x := s["model.layers.1.self_attn.o_proj.input_offset"]
		clear(x.Data)
		b := s["model.layers.1.self_attn.o_proj.quant_bias"]
		clear(b.Data)
		return true, nil
	})
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(dst, quant.ManifestName)))
	r, text := static(t, src, dst)
	require.Equal(t, verify.Fail, r.Verdict)
	assert.True(t, strings.Contains(text, "o_proj.input_offset"), text)
}
