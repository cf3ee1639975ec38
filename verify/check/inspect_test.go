package check

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
)

func TestInspect(t *testing.T) {
	in, err := Inspect(testkit.Shared(t, "reference/nano-glm5"))
	require.NoError(t, err)
	assert.Equal(t, "glm_moe_dsa", in.Family)
	assert.Equal(t, 153, in.Tensors)
	assert.Equal(t, int64(4192864), in.Bytes)
	assert.Equal(t, []int{3, 1, 8, 2, 1}, []int{in.Layers, in.Dense, in.Experts, in.Active, in.Shared})
	assert.Equal(t, &MTPState{Layer: 3, File: in.MTP.File, Complete: true}, in.MTP)
	assert.NotEmpty(t, in.MTP.File)
	assert.Empty(t, in.Quantization)
	assert.Empty(t, in.Missing)
	assert.Empty(t, in.Unexpected)
	assert.Empty(t, in.Problems)
	assert.Len(t, in.List, in.Tensors)
	text := in.Text()
	for _, want := range []string{"nano-glm5 · glm_moe_dsa · ", "BF16", "4.19 MB in 2 shards", "3 (1 dense, 2 MoE: 8 experts, 2 active, 1 shared)", "MLA 64/64", "sparse attention top 16",
		"layer 3", "embed_tokens and shared_head.head absent", "glmconv mtp-remap", "1088 (1024 used)", "tokenizer.json", "problems  none"} {
		assert.Contains(t, text, want)
	}
	raw, err := json.Marshal(in)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	for _, key := range []string{"schema", "family", "parameters", "tensors", "bytes", "layers", "experts", "mtp", "quantization", "missing", "unexpected"} {
		assert.Contains(t, m, key)
	}
	assert.Equal(t, "glmconv.inspect/1", m["schema"])
}

// TestInspectParameters: a quantised checkpoint has the parameters of its
// source, whatever its tensors look like.
func TestInspectParameters(t *testing.T) {
	src, err := Inspect(testkit.Shared(t, "reference/nano-glm4moe"))
	require.NoError(t, err)
	for _, what := range []string{fp8CT, int8CT, packedCT, int8Asc, "nano-glm4moe-quantized/W4A8"} {
		in, err := Inspect(good(t, what))
		require.NoError(t, err)
		assert.Equal(t, src.Parameters, in.Parameters, what)
		assert.NotEmpty(t, in.Quantization, what)
		assert.Empty(t, in.Missing, what)
		assert.Empty(t, in.Unexpected, what)
		assert.NotEmpty(t, in.Tool, what)
	}
}

func TestInspectOthers(t *testing.T) {
	in, err := Inspect(testkit.Shared(t, "reference/nano-glm45v"))
	require.NoError(t, err)
	assert.Nil(t, in.MTP)
	assert.Contains(t, in.Text(), "vision tower of 2 blocks")
	in, err = Inspect(testkit.Shared(t, "reference/nano-glm4moe"))
	require.NoError(t, err)
	assert.True(t, in.MTP.EmbedTokens && in.MTP.SharedHead)
	in, err = Inspect(testkit.Shared(t, "reference/tiny-glm4moe"))
	require.NoError(t, err)
	assert.Equal(t, "mtp.safetensors", in.MTP.File)

	_, err = Inspect(t.TempDir())
	require.Error(t, err)
	dir := good(t, "nano-glm5")
	require.NoError(t, os.Remove(shard(t, dir)))
	in, err = Inspect(dir)
	require.NoError(t, err)
	assert.NotEmpty(t, in.Problems)
	assert.NotEmpty(t, in.Missing)
	edit(t, dir, "config.json", func(m map[string]any) { m["model_type"] = "llama" })
	_, err = Inspect(dir)
	require.ErrorIs(t, err, glm.ErrUnsupported)
	require.NoError(t, os.Remove(filepath.Join(dir, "config.json")))
	_, err = Inspect(dir)
	require.Error(t, err)
}

func TestScaled(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1.00 K", 753_864_139_008: "754 B", 110_468_824_832: "110 B", 12_340_000_000: "12.3 B", 999_600: "1.00 M"} {
		assert.Equal(t, want, count(n))
	}
	assert.Equal(t, "1.51 TB", size(1_507_728_000_000))
}
