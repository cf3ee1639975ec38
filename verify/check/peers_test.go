package check

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/safetensors"
)

// The directories that other tools leave, as measured on them, must be called
// what they are.

func verdicts(r *Report) map[string]string {
	m := map[string]string{}
	for _, v := range r.Engines {
		m[v.Engine] = string(v.Answer)
	}
	return m
}

// TestNoIgnoreList is llm-compressor's model_free_ptq with ignore=["lm_head"]:
// every other 2-D weight is quantised.
func TestNoIgnoreList(t *testing.T) {
	dir := good(t, "nano-glm4moe-quantized/FP8_DYNAMIC")
	also := []string{"mlp.gate.weight", "eh_proj.weight", "embed_tokens.weight", "shared_head.head.weight"}
	retensor(t, dir, func(x tensor) []tensor {
		for _, s := range also {
			if strings.HasSuffix(x.Name, s) {
				return quantize(safetensors.F8E4M3, "weight_scale", safetensors.BF16)(x)
			}
		}
		return []tensor{x}
	})
	edit(t, dir, "config.json", func(m map[string]any) {
		m["quantization_config"].(map[string]any)["ignore"] = []string{"lm_head"}
	})
	r := examine(t, dir, Options{})
	assert.False(t, r.OK)
	assert.Contains(t, r.Cause, "llm-compressor")
	assert.Contains(t, r.Cause, "without an ignore list")
	for _, code := range []string{"router-quantized", "eh-proj-quantized", "embedding-quantized", "mtp-copy-quantized"} {
		assert.True(t, r.Has(code), code)
	}
	assert.Equal(t, "refuses", verdicts(r)["vllm"])
	assert.Equal(t, "differs", verdicts(r)["sglang"])
	assert.Contains(t, r.Text(), "cause")
}

// TestOnlyEhProj: a correct list without eh_proj loads without a word.
func TestOnlyEhProj(t *testing.T) {
	dir := good(t, "nano-glm4moe w8a8 compressed-tensors")
	retensor(t, dir, one(ending("eh_proj.weight"), quantize(safetensors.I8, "weight_scale", safetensors.BF16)))
	r := examine(t, dir, Options{})
	assert.Contains(t, r.Cause, "eh_proj")
	assert.Contains(t, r.Cause, "drafts are noise")
	assert.Equal(t, "differs", verdicts(r)["vllm"])
}

// TestMsmodelslim: the router biases are buffers and get lost, in file and
// description; MTP tensors that stay FLOAT become F32.
func TestMsmodelslim(t *testing.T) {
	dir := good(t, int8Asc)
	lost := 0
	retensor(t, dir, func(x tensor) []tensor {
		switch {
		case strings.HasSuffix(x.Name, "e_score_correction_bias"):
			lost++
			return nil
		case strings.Contains(x.Name, "layers.3.") && x.DType == safetensors.BF16:
			return widen(x)
		}
		return []tensor{x}
	})
	edit(t, dir, "quant_model_description.json", func(m map[string]any) {
		for k := range m {
			if strings.HasSuffix(k, "e_score_correction_bias") {
				delete(m, k)
			}
		}
	})
	replace(t, dir, "GLM-4.7_best_practice.yaml", "apiversion: modelslim_v1\n")
	r := examine(t, dir, Options{})
	assert.False(t, r.OK)
	assert.Contains(t, r.Cause, "msmodelslim")
	assert.Contains(t, r.Cause, "router biases")
	assert.Contains(t, r.Cause, "F32")
	assert.Positive(t, lost)
	assert.Equal(t, "differs", verdicts(r)["vllm-ascend"])
	in, err := Inspect(dir)
	require.NoError(t, err)
	assert.Equal(t, "msmodelslim", in.Tool)
	assert.Equal(t, "ascend", in.Quantization)
	assert.Len(t, in.Missing, lost)
}

// takeOver replaces config.json and the index by the source's, as a job that
// copies them first and ends early leaves them.
func takeOver(t *testing.T, dir string) {
	t.Helper()
	src := testkit.Shared(t, "reference/nano-glm4moe")
	for _, n := range []string{"config.json", safetensors.IndexName} {
		raw, err := os.ReadFile(filepath.Join(src, n))
		require.NoError(t, err)
		write(t, filepath.Join(dir, n), raw)
	}
}

func TestKilledBeforeConfig(t *testing.T) {
	for _, scheme := range []string{"FP8_DYNAMIC", "W4A8"} {
		dir := good(t, "nano-glm4moe-quantized/"+scheme)
		takeOver(t, dir)
		r := examine(t, dir, Options{})
		assert.False(t, r.OK)
		assert.Contains(t, r.Cause, "between the last shard and config.json")
		assert.True(t, r.Has("config-not-quantized"))
		assert.True(t, r.Has("index-tensor-unlisted"), "the scales are not in the source's index")
		assert.Equal(t, "refuses", verdicts(r)["vllm"])
		assert.Equal(t, "differs", verdicts(r)["sglang"])
	}
}

func TestKilledBetweenShards(t *testing.T) {
	dir := good(t, "nano-glm4moe-quantized/FP8_DYNAMIC")
	takeOver(t, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "model-00002-of-00002.safetensors")))
	replace(t, dir, ".tmp8w0BT1", strings.Repeat("x", 1000))
	r := examine(t, dir, Options{})
	assert.Contains(t, r.Cause, "between two shards")
	assert.True(t, r.Has("temp-file"))
	assert.True(t, r.Has("shard-missing"))
}

// TestKilledConversion fails operations of a real conversion: what it leaves
// is called unfinished, or is no checkpoint at all.
func TestKilledConversion(t *testing.T) {
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/nano-glm5"))
	require.NoError(t, err)
	defer src.Close()
	plan, err := quant.NewPlan(src, quant.W8A8, "", quant.Options{})
	require.NoError(t, err)
	seen := 0
	for n := 4; ; n += 7 {
		dst := filepath.Join(t.TempDir(), "result")
		fsys := &fsx.Faulty{FS: quick{fsx.OS}, FailAt: n, Sticky: true, Err: syscall.ENOSPC}
		_, err := convert.Run(context.Background(), plan, src, dst, convert.Options{Workers: 1, FS: fsys})
		if !fsys.Hit() {
			require.NoError(t, err)
			break
		}
		if err == nil {
			continue // the failed step came after the manifest
		}
		if _, err := os.Stat(dst); err != nil {
			continue
		}
		r := examine(t, dst, Options{})
		if _, err := quant.ReadManifest(dst); err == nil {
			assert.True(t, r.OK, "the result was complete, its state folder not yet removed")
			continue
		}
		assert.False(t, r.OK, "operation %d %v", n, fsys.Ops())
		if r.Has("unfinished-conversion") {
			seen++
			assert.Contains(t, r.Cause, "unfinished glmconv conversion")
		}
	}
	assert.Greater(t, seen, 3)
}

// TestAscendBeforeDescription: shards of an Ascend job without a description.
func TestAscendBeforeDescription(t *testing.T) {
	dir := good(t, int8Asc)
	_ = os.Remove(filepath.Join(dir, quant.ManifestName))
	require.NoError(t, os.Remove(filepath.Join(dir, "quant_model_description.json")))
	r := examine(t, dir, Options{})
	assert.False(t, r.OK)
	assert.Contains(t, r.Cause, "before it wrote quant_model_description.json")
}

// TestMTPNotIgnored: the MTP layer in full precision that the config does not
// mention (docs/facts/engine-vllm.md 3: loads, no message).
func TestMTPNotIgnored(t *testing.T) {
	dir := good(t, "nano-glm4moe w8a8 compressed-tensors")
	src, err := safetensors.OpenDir(testkit.Shared(t, "reference/nano-glm4moe"))
	require.NoError(t, err)
	defer src.Close()
	retensor(t, dir, func(x tensor) []tensor {
		if !strings.Contains(x.Name, "layers.3.") {
			return []tensor{x}
		}
		if strings.HasSuffix(x.Name, "weight_scale") {
			return nil
		}
		info, ok := src.Info(x.Name)
		require.True(t, ok)
		x.DType, x.data = info.DType, make([]byte, info.Size)
		require.NoError(t, src.ReadAt(info, 0, x.data))
		return []tensor{x}
	})
	r := examine(t, dir, Options{})
	assert.Contains(t, r.Cause, "MTP layer is full precision")
	assert.Equal(t, map[string]string{"vllm": "differs", "sglang": "differs", "vllm-ascend": "differs"}, verdicts(r))
}

func TestReportJSON(t *testing.T) {
	dir := good(t, "nano-glm5")
	raw, err := json.Marshal(examine(t, dir, Options{}))
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	assert.Equal(t, "glmconv.check/1", m["schema"])
	assert.Equal(t, true, m["ok"])
	for _, f := range m["findings"].([]any) {
		for _, key := range []string{"severity", "code", "where", "detail"} {
			assert.Contains(t, f, key)
		}
	}
	empty := &Report{}
	empty.finish()
	raw, err = json.Marshal(empty)
	require.NoError(t, err)
	assert.Contains(t, string(raw), `"findings":[]`)
}

func TestRunErrors(t *testing.T) {
	_, err := Run(context.Background(), filepath.Join(t.TempDir(), "absent"), Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	dir := good(t, "nano-glm5")
	_, err = Run(context.Background(), dir, Options{Engines: []string{"tgi"}})
	require.ErrorIs(t, err, engine.ErrUnknown)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Run(ctx, dir, Options{})
	require.ErrorIs(t, err, context.Canceled)
	r := examine(t, t.TempDir(), Options{})
	assert.False(t, r.OK)
}

// TestAskedEngine: an engine that was asked for and refuses makes the verdict
// negative; unasked it is a warning.
func TestAskedEngine(t *testing.T) {
	dir := good(t, "nano-glm4moe-quantized/W4A8")
	assert.True(t, examine(t, dir, Options{}).OK)
	for _, e := range []string{"vllm", "sglang"} {
		r := examine(t, dir, Options{Engines: []string{e}})
		assert.False(t, r.OK)
		assert.True(t, r.Has("engine-refuses"))
	}
	fp8 := good(t, "nano-glm4moe-quantized/FP8_DYNAMIC")
	r := examine(t, fp8, Options{Engines: []string{"vllm-ascend@0.18"}})
	assert.False(t, r.OK)
	assert.Equal(t, "differs", verdicts(r)["vllm-ascend"])
	r = examine(t, fp8, Options{Engines: []string{"vllm-ascend"}, Hardware: "ascend-a3"})
	assert.False(t, r.OK)
	assert.Equal(t, "refuses", verdicts(r)["vllm-ascend"])
	r = examine(t, fp8, Options{Engines: []string{"vllm-ascend"}, Hardware: "atlas-950"})
	assert.True(t, r.OK)
	assert.Equal(t, "ascend-950pr", r.Engines[0].Hardware)
	assert.Equal(t, "0.30", r.Engines[0].Release)
	r = examine(t, good(t, int8CT), Options{Engines: []string{"vllm"}, Hardware: "b200"})
	assert.Nil(t, r.Verdict, "no table knows")
	assert.False(t, r.OK)
	assert.Contains(t, r.Text(), "NOT JUDGED")
}

func TestFolding(t *testing.T) {
	r := &Report{}
	s := &subject{report: r}
	for i := range 100 {
		s.add("scale-zero", "layers."+string(rune('0'+i%10))+".x", "zero")
	}
	s.add("temp-file", "a", "b")
	r.finish()
	require.Len(t, r.Findings, 4)
	assert.Equal(t, 98, r.Findings[2].Count)
	assert.Contains(t, r.Findings[2].Detail, "97 more")
	assert.Equal(t, "temp-file", r.Findings[3].Code, "errors come first")
}
