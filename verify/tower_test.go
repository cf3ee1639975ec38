package verify

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// changed is a copy of a reference checkpoint with the values of some tensors
// changed in place.
func changed(t *testing.T, name string, edit func(info safetensors.Info, x []float32) bool) string {
	src, dst := testkit.Shared(t, "reference/"+name), t.TempDir()
	entries, err := os.ReadDir(src)
	require.NoError(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(src, e.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dst, e.Name()), b, 0o600))
	}
	ckpt, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer ckpt.Close()
	for _, info := range ckpt.Tensors() {
		if info.DType != safetensors.BF16 {
			continue
		}
		b := make([]byte, info.Size)
		require.NoError(t, ckpt.ReadAt(info, 0, b))
		x := make([]float32, info.Elements())
		numeric.DecodeBF16(x, b)
		if !edit(info, x) {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dst, info.File), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(numeric.AppendBF16(nil, x), info.Offset)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	return dst
}

func visionModel(t *testing.T, dir string) VisionModel {
	m, err := runtime.Load(dir, runtime.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return VisionModel{dir, m}
}

// roundRows rounds every row to int8 steps, as a scheme that forgot to leave
// the tower alone would.
func roundRows(x []float32, cols int) {
	for lo := 0; lo < len(x); lo += cols {
		row, top := x[lo:lo+cols], float32(0)
		for _, v := range row {
			top = max(top, v, -v)
		}
		for i, v := range row {
			row[i] = numeric.RoundBF16(float32(int(v/top*127+127.5)-127) * top / 127)
		}
	}
}

func TestTowers(t *testing.T) {
	ctx := context.Background()
	source := visionModel(t, testkit.Shared(t, "reference/nano-glm45v"))
	same := func(safetensors.Info, []float32) bool { return false }
	one := func(part string, fn func(x []float32, cols int)) func(safetensors.Info, []float32) bool {
		return func(i safetensors.Info, x []float32) bool {
			if !strings.Contains(i.Name, part) {
				return false
			}
			fn(x, len(x)/int(i.Shape[0]))
			return true
		}
	}
	for _, c := range []struct {
		name string
		edit func(safetensors.Info, []float32) bool
		fail bool
	}{
		{"copy", same, false},
		{"text changed", one("language_model.layers.1.self_attn.q_proj", roundRows), false},
		{"one projection in 8 bits", one("visual.blocks.0.attn.qkv", roundRows), true},
		{"merger in 8 bits", one("visual.merger.up_proj", roundRows), true},
		{"patches in 8 bits", one("visual.patch_embed.proj.weight", roundRows), true},
		{"position table zero", one("visual.embeddings", func(x []float32, _ int) { clear(x) }), true},
		{"downsampling scrambled", one("visual.downsample.weight", func(x []float32, _ int) {
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(x), func(i, j int) { x[i], x[j] = x[j], x[i] })
		}), true},
		{"one value", one("visual.blocks.1.mlp.down_proj", func(x []float32, _ int) { x[5]++ }), true},
		{"not a number", one("visual.post_layernorm", func(x []float32, _ int) { x[0] /= x[0] - x[0] }), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := CompareTowers(ctx, source, visionModel(t, changed(t, "nano-glm45v", c.edit)))
			require.NoError(t, err)
			assert.Equal(t, probePrompts, r.Prompts)
			assert.Greater(t, r.Rows, 20)
			assert.Equal(t, c.fail, !r.Exact)
			assert.Equal(t, c.fail, len(r.Failed()) > 0)
			t.Logf("relative %.2g", r.Relative)
			if c.fail {
				assert.Positive(t, r.Relative)
			}
		})
	}
}

func TestTowerSettings(t *testing.T) {
	dir := changed(t, "nano-glm45v", func(safetensors.Info, []float32) bool { return false })
	require.NoError(t, os.Remove(filepath.Join(dir, "preprocessor_config.json")))
	r, err := CompareTowers(context.Background(), visionModel(t, testkit.Shared(t, "reference/nano-glm45v")), visionModel(t, dir))
	require.NoError(t, err)
	require.Len(t, r.Failed(), 1)
	assert.Equal(t, "preprocessor_config.json", r.Failed()[0].Where)
}

func TestNoTower(t *testing.T) {
	text := visionModel(t, testkit.Shared(t, "reference/nano-glm4moe"))
	r, err := CompareTowers(context.Background(), text, text)
	require.NoError(t, err)
	assert.Nil(t, r)
	assert.Empty(t, r.Failed())
	_, err = CompareTowers(context.Background(), visionModel(t, testkit.Shared(t, "reference/nano-glm45v")), text)
	assert.ErrorIs(t, err, runtime.ErrUnsupported)
}
