package engine_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
)

var (
	chan8Part = engine.Part{Weight: format.Float8, Acts: format.Float8Token}
	blockPart = engine.Part{Weight: format.Float8Block, Acts: format.Float8Group}
	int8Part  = engine.Part{Weight: format.Int8, Acts: format.Int8Token}
	int4FP8   = engine.Part{Weight: format.Int4(128).Packed(format.Words), Acts: format.Float8Token}
	ascInt4   = engine.Part{Weight: format.Int4(0), Acts: format.Int8Token}
)

// all makes every part of the trunk, and the MTP layer, of one kind.
func all(l engine.Layout, p engine.Part) engine.Subject {
	return engine.Subject{Layout: l, Experts: p, Shared: p, Dense: p, Attention: p, Output: p, DraftExperts: p, Draft: engine.HasDraft}
}

// ask judges a subject of a published model.
func ask(t *testing.T, preset string, s engine.Subject, who, device string) engine.Summary {
	t.Helper()
	cfg, err := glm.Preset(preset)
	require.NoError(t, err)
	s.Config = cfg
	r, err := engine.Find(who)
	require.NoError(t, err)
	q := engine.Query{Releases: []engine.Release{r}}
	if device != "" {
		d, err := engine.FindDevice(device)
		require.NoError(t, err)
		q.Hardware = &d
	}
	rows := engine.Judge(s, q)
	if device == "" {
		sum := engine.Summarize(rows)
		loads, drafts := engine.LoadsAt(&s, r)
		assert.Equal(t, sum.Answer == engine.Loads, loads)
		assert.Equal(t, loads && sum.NoDraft == "", drafts)
	}
	for _, row := range rows {
		assert.Equal(t, r.Version, row.Release)
		assert.NotEmpty(t, row.Hardware)
		if row.Answer == engine.NotJudged {
			assert.Nil(t, row.Loads)
		} else {
			assert.Equal(t, row.Answer == engine.Loads, *row.Loads)
		}
	}
	return engine.Summarize(rows)
}

// SGLang's loader takes the block size of merged linears from the target
// Linear, which belongs to the int4 experts: no degree loads the mixed file.
func TestMixedFileIsForVLLM(t *testing.T) {
	for _, preset := range []string{"glm-4.7-flash", "glm-5"} {
		s := all(engine.CompressedTensors, blockPart)
		s.Experts, s.DraftExperts = int4FP8, engine.Part{}
		v := ask(t, preset, s, "vllm", "")
		assert.Equal(t, engine.Loads, v.Answer, preset)
		assert.Equal(t, "Hopper", v.Generations(), preset)
		v = ask(t, preset, s, "sglang", "h200")
		assert.Equal(t, engine.Refuses, v.Answer, preset)
		assert.Contains(t, v.Rule, "NoneType", preset)
		assert.Equal(t, engine.Refuses, ask(t, preset, s, "vllm-ascend", "").Answer, preset)
	}
}

var mx8Part = engine.Part{Weight: format.MXFP8, Acts: format.MXFP8Group}

func TestFourAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		preset, who, device string
		subject             engine.Subject
		want                engine.Answer
		rule                string
	}{
		"INT8 on A100":                     {"glm-4.5-air", "vllm", "a100", all(engine.CompressedTensors, int8Part), engine.Loads, ""},
		"INT8 on B200 is in no table":      {"glm-4.5-air", "vllm", "b200", all(engine.CompressedTensors, int8Part), engine.NotJudged, "int8"},
		"FP8 on A100 in vLLM":              {"glm-4.5-air", "vllm", "a100", all(engine.CompressedTensors, chan8Part), engine.Loads, "weight-only"},
		"FP8 on A100 in SGLang":            {"glm-4.5-air", "sglang", "a100", all(engine.CompressedTensors, chan8Part), engine.Refuses, "fp8e4nv"},
		"FP8 on Ascend, 0.18":              {"glm-4.5-air", "vllm-ascend@0.18", "", all(engine.CompressedTensors, chan8Part), engine.Differs, "garbage"},
		"FP8 on Ascend, 0.20":              {"glm-4.5-air", "vllm-ascend@0.20", "", all(engine.CompressedTensors, chan8Part), engine.Differs, "garbage"},
		"FP8 on A3, 0.30":                  {"glm-4.5-air", "vllm-ascend@0.30", "ascend-a3", all(engine.CompressedTensors, chan8Part), engine.Refuses, "A5"},
		"block FP8 on A5":                  {"glm-5", "vllm-ascend", "ascend-950pr", all(engine.HFFP8, blockPart), engine.Loads, "A5"},
		"block FP8 on A3":                  {"glm-5", "vllm-ascend", "ascend-a3", all(engine.HFFP8, blockPart), engine.Loads, "dtype"},
		"block FP8 before its class":       {"glm-5", "vllm-ascend@0.20", "ascend-950pr", all(engine.HFFP8, blockPart), engine.Refuses, "0.27"},
		"block FP8 in DeepSeek-V4's class": {"glm-5", "vllm-ascend@0.22", "ascend-950pr", all(engine.HFFP8, blockPart), engine.Refuses, "DeepSeek-V4"},
		"ModelOpt's MXFP8 on A5":           {"glm-5", "vllm-ascend", "ascend-950pr", all(engine.ModelOpt, mx8Part), engine.Loads, "0.27"},
		"ModelOpt's MXFP8 on A3":           {"glm-5", "vllm-ascend", "ascend-a3", all(engine.ModelOpt, mx8Part), engine.Refuses, "950"},
		"ModelOpt's MXFP8 in 0.26":         {"glm-5", "vllm-ascend@0.26", "", all(engine.ModelOpt, mx8Part), engine.Refuses, "0.27"},
		"MX alone in compressed-tensors":   {"glm-4.5-air", "vllm-ascend", "ascend-950pr", all(engine.CompressedTensors, mx8Part), engine.Refuses, "mixed-precision"},
		"MX in compressed-tensors, 0.27":   {"glm-4.5-air", "vllm-ascend@0.27", "", all(engine.CompressedTensors, mx8Part), engine.Refuses, "0.28"},
		"GLM-5 on A100":                    {"glm-5", "vllm", "a100", all(engine.CompressedTensors, int8Part), engine.Refuses, "sparse attention"},
		"GLM-5 in full precision on A100":  {"glm-5", "vllm", "a100", engine.Subject{}, engine.Refuses, "sparse attention"},
		"GLM-5 on RTX in SGLang":           {"glm-5", "sglang", "rtx-5090", all(engine.HFFP8, blockPart), engine.NotJudged, "sparse attention"},
		"GLM-5.2 on Ascend, 0.22":          {"glm-5.2", "vllm-ascend@0.22", "", all(engine.AscendLayout, int8Part), engine.Refuses, "0.23"},
		"GLM-5.2 on Ascend, newest":        {"glm-5.2", "vllm-ascend", "", all(engine.AscendLayout, int8Part), engine.Loads, "0.23"},
		"int4 for Ascend in vLLM":          {"glm-5", "vllm", "", all(engine.AscendLayout, ascInt4), engine.Refuses, "plain vLLM"},
		"int4 linears in Ascend":           {"glm-5", "vllm-ascend", "", all(engine.AscendLayout, ascInt4), engine.Refuses, "W4A8_DYNAMIC"},
		"an engine on another's device":    {"glm-5", "vllm-ascend", "h100", all(engine.AscendLayout, int8Part), engine.NotJudged, "h100"},
		"a format of no table": {"glm-4.5-air", "vllm", "", all(engine.CompressedTensors, engine.Part{Weight: format.Integer(3, 128)}),
			engine.NotJudged, "int3"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(t, tc.preset, tc.subject, tc.who, tc.device)
			assert.Equal(t, tc.want, got.Answer, "%+v", got)
			assert.Contains(t, got.Rule, tc.rule)
		})
	}
}

// TestLayerInFullPrecision: a layer whose experts stay as they are is another kind
// beside those that are quantized: SGLang would fuse its quantized shared expert
// with them.
func TestLayerInFullPrecision(t *testing.T) {
	s := all(engine.CompressedTensors, blockPart)
	s.DraftExperts, s.Draft = engine.Part{}, engine.NoDraft
	assert.NotContains(t, ask(t, "glm-4.7-flash", s, "sglang", "h200").Flags, "--disable-shared-experts-fusion")
	var err error
	s.Config, err = glm.Preset("glm-4.7-flash")
	require.NoError(t, err)
	layers := engine.Layers{}
	for layer, experts := range []engine.Part{{}, blockPart} {
		layers.Add(glm.Tensor{Layer: layer, Role: glm.ExpertGate}, experts)
		layers.Add(glm.Tensor{Layer: layer, Role: glm.SharedGate}, blockPart)
	}
	assert.Contains(t, ask(t, "glm-4.7-flash", layers.Mixed(s), "sglang", "h200").Flags, "--disable-shared-experts-fusion")
}
