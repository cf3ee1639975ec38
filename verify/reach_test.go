package verify_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/calib"
	calibcorpus "github.com/glmconv/glmconv/calib/corpus"
	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

// inputsOf measures a model on some of the text that statistics are made of.
func inputsOf(t *testing.T, src string, tokens int) *quant.Inputs {
	t.Helper()
	tok, err := tokenizer.Load(src)
	require.NoError(t, err)
	var seqs [][]int
	for _, d := range calibcorpus.Documents() {
		ids := tok.Encode(d)
		for ; len(ids) >= 64 && tokens > 0; tokens -= 64 {
			seqs, ids = append(seqs, ids[:64]), ids[64:]
		}
	}
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	in, err := calib.Inputs(t.Context(), c, seqs, calib.InputsOptions{Name: "other text"})
	require.NoError(t, err)
	return in
}

// times multiplies the F32 numbers of every tensor of which the name ends so.
func times(t *testing.T, dir string, by float32, names ...string) {
	t.Helper()
	hit, err := mutate.Edit(dir, func(s mutate.Set) (hit bool, err error) {
		for n, x := range s {
			for _, end := range names {
				if strings.HasSuffix(n, end) && x.DType == safetensors.F32 {
					for i := 0; i < len(x.Data); i += 4 {
						v := math.Float32frombits(binary.LittleEndian.Uint32(x.Data[i:]))
						binary.LittleEndian.PutUint32(x.Data[i:], math.Float32bits(v*by))
					}
					hit = true
				}
			}
		}
		return hit, nil
	})
	require.NoError(t, err)
	require.True(t, hit)
}

// The scale of an input that is wrong for every module alike shows in no weight:
// the inputs themselves tell, whatever text they are of.
func TestScalesOfInputs(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	nvfp4 := convertAs(t, src, layout.NVFP4, layout.CompressedTensors, quant.Options{Inputs: inputsOf(t, src, 512), Rest: layout.RestSame})
	modelopt := convertAs(t, src, layout.NVFP4, layout.ModelOpt, quant.Options{Inputs: inputsOf(t, src, 512), Rest: layout.RestSame})
	qkv := []string{"layers.1.self_attn.q_proj.", "layers.1.self_attn.k_proj.", "layers.1.self_attn.v_proj."}
	with := func(param string) (names []string) {
		for _, n := range qkv {
			names = append(names, n+param)
		}
		return names
	}
	for name, c := range map[string]struct {
		dir   string
		by    float32
		names []string
		says  string
	}{
		"NVFP4":                      {dir: nvfp4},
		"NVFP4, too coarse":          {nvfp4, 1.0 / 16, with("input_global_scale"), "layers.1.self_attn."},
		"NVFP4, too narrow":          {nvfp4, 16, with("input_global_scale"), "layers.1.self_attn."},
		"NVFP4, by four":             {nvfp4, 4, with("input_global_scale"), "layers.1.self_attn."},
		"NVFP4, experts":             {nvfp4, 8, []string{"gate_proj.input_global_scale", "up_proj.input_global_scale"}, "_proj.input_global_scale"},
		"ModelOpt NVFP4":             {dir: modelopt},
		"ModelOpt NVFP4, too coarse": {modelopt, 16, with("input_scale"), "layers.1.self_attn."},
		"ModelOpt FP8":               {dir: testkit.Shared(t, "reference/foreign/modelopt-fp8")},
		"ModelOpt FP8, too coarse":   {testkit.Shared(t, "reference/foreign/modelopt-fp8"), 8, with("input_scale"), "layers.1.self_attn."},
		"ModelOpt FP8, too narrow":   {testkit.Shared(t, "reference/foreign/modelopt-fp8"), 0.125, with("input_scale"), "layers.1.self_attn."},
	} {
		t.Run(name, func(t *testing.T) {
			dst := t.TempDir()
			require.NoError(t, os.CopyFS(dst, os.DirFS(c.dir)))
			if c.names != nil {
				times(t, dst, c.by, c.names...)
			}
			require.NoError(t, os.RemoveAll(filepath.Join(dst, quant.ManifestName)))
			r, err := verify.Compare(t.Context(), src, dst, verify.Options{Tokens: 512, SeqLen: 64})
			require.NoError(t, err)
			text := report.Text(r)
			if c.names == nil {
				assert.NotContains(t, text, "no calibration leads to it")
				return
			}
			require.Equal(t, verify.Fail, r.Verdict, text)
			i := slices.IndexFunc(r.Failed, func(f verify.Failed) bool { return strings.Contains(f.Detail, "no calibration leads to it") })
			require.GreaterOrEqual(t, i, 0, text)
			assert.Contains(t, r.Failed[i].Where, c.says)
			if !strings.Contains(name, "FP8") { // which lacks its MTP layer
				assert.Contains(t, r.Cause, r.Failed[i].Where, text)
			}
		})
	}
}
