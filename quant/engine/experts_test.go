package engine_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/format"
)

// TestIntegerExperts: int4 experts with int8 inputs, and int8 ones on CPUs, by
// the engines' classes (vllm 0.32 fused_moe/oracle/w4a8_int8.py and
// experts/cpu_moe.py, vllm-ascend methods/w4a8.py).
func TestIntegerExperts(t *testing.T) {
	cfg, err := glm.Preset("glm-4.5-air")
	require.NoError(t, err)
	int8 := engine.Part{Weight: format.Int8, Acts: format.Int8Token}
	int4 := func(group int) engine.Part { return engine.Part{Weight: format.Int4(group), Acts: format.Int8Token} }
	for _, tc := range []struct {
		name          string
		experts, rest engine.Part
		who, on       string
		want          engine.Answer
		says          string
	}{
		{"vLLM, int4 on a GPU", int4(128), int4(128), "vllm@0.32", "h100", engine.Refuses, "Arm CPUs"},
		{"vLLM, int4 on a CPU", int4(128), int4(128), "vllm@0.32", "xeon", engine.Refuses, "sigmoid"},
		{"vLLM, int4 experts alone on a GPU", int4(0), int8, "vllm", "h100", engine.Refuses, "Arm CPUs"},
		{"vLLM, int8 on a GPU", int8, int8, "vllm", "h100", engine.Loads, ""},
		{"vLLM, int8 on a CPU", int8, int8, "vllm", "xeon", engine.Refuses, "sigmoid"},
		{"vllm-ascend, int4 everywhere", int4(128), int4(128), "vllm-ascend@0.18", "ascend-a2", engine.Refuses, "second scales"},
		{"vllm-ascend, int4 channels everywhere", int4(0), int4(0), "vllm-ascend", "ascend-a3", engine.Refuses, "second scales"},
		{"vllm-ascend, int4 experts in groups", int4(128), int8, "vllm-ascend@0.18", "ascend-a2", engine.Loads, "until 0.26"},
		{"vllm-ascend, int4 experts in groups, the last release", int4(32), int8, "vllm-ascend@0.26", "ascend-a3", engine.Loads, "until 0.26"},
		{"vllm-ascend, int4 experts in groups, later", int4(128), int8, "vllm-ascend@0.27", "ascend-a2", engine.Refuses, "a channel alone"},
		{"vllm-ascend, int4 experts in channels", int4(0), int8, "vllm-ascend@0.18", "ascend-a2", engine.Loads, "every release"},
		{"vllm-ascend, int4 experts in channels, later", int4(0), int8, "vllm-ascend", "ascend-a3", engine.Loads, "every release"},
		{"vllm-ascend, int4 experts beside full precision", int4(0), engine.Part{}, "vllm-ascend", "ascend-a3", engine.Loads, "every release"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := engine.Find(tc.who)
			require.NoError(t, err)
			d, err := engine.FindDevice(tc.on)
			require.NoError(t, err)
			rows := engine.Judge(engine.Subject{Config: cfg, Layout: engine.CompressedTensors, Experts: tc.experts, Shared: tc.rest, Dense: tc.rest, Attention: tc.rest,
				Output: tc.rest}, engine.Query{Releases: []engine.Release{r}, Hardware: &d})
			assert.Equal(t, tc.want, rows[0].Answer, rows[0].Rule)
			assert.Contains(t, rows[0].Rule, tc.says)
		})
	}
}

// TestGroupsOnRanks: ranks of vllm-ascend take as many columns of scales as they
// have whole groups. 1408 are 11 groups of 128: a half has 5, which are no equal
// parts of 704; a quarter 2, which are of 352, and belong to other columns.
func TestGroupsOnRanks(t *testing.T) {
	cfg, err := glm.Preset("glm-4.5-air")
	require.NoError(t, err)
	r, err := engine.Find("vllm-ascend@0.26")
	require.NoError(t, err)
	for _, tc := range []struct {
		name  string
		group int
		want  map[string]engine.Answer
	}{
		{"groups of 128", 128, map[string]engine.Answer{"TP1": engine.Loads, "TP2": engine.Refuses, "TP4": engine.Differs, "TP8": engine.Differs, "TP8+EP": engine.Loads}},
		{"groups of 32", 32, map[string]engine.Answer{"TP1": engine.Loads, "TP2": engine.Loads, "TP4": engine.Loads, "TP8": engine.Refuses, "TP8+EP": engine.Loads}},
		{"a channel", 0, map[string]engine.Answer{"TP1": engine.Loads, "TP2": engine.Loads, "TP4": engine.Loads, "TP8": engine.Loads, "TP8+EP": engine.Loads}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := engine.Subject{Config: cfg, Layout: engine.CompressedTensors, Experts: engine.Part{Weight: format.Int4(tc.group), Acts: format.Int8Token}}
			for _, row := range engine.Judge(s, engine.Query{Releases: []engine.Release{r}}) {
				if want, ok := tc.want[row.Parallel]; ok {
					assert.Equal(t, want, row.Answer, "%s: %s", row.Parallel, row.Rule)
				}
			}
		})
	}
}

// TestQuarkNVFP4: with inputs in the same format vLLM has classes for it, on AMD
// the emulated kernel; weights alone are refused, as SGLang refuses both.
func TestQuarkNVFP4(t *testing.T) {
	cfg, err := glm.Preset("glm-5.1")
	require.NoError(t, err)
	both, weights := engine.Part{Weight: format.NVFP4, Acts: format.NVFP4Local}, engine.Part{Weight: format.NVFP4}
	for _, tc := range []struct {
		name, who, on string
		part          engine.Part
		want          engine.Answer
		says          string
	}{
		{"vLLM on Blackwell", "vllm@0.32", "b200", both, engine.Loads, "its warning"},
		{"vLLM on Hopper", "vllm@0.32", "h100", both, engine.Loads, "saves memory and no time"},
		{"vLLM on AMD", "vllm", "mi355x", both, engine.Loads, "emulated"},
		{"vLLM, weights alone", "vllm", "b200", weights, engine.Refuses, "same format"},
		{"SGLang", "sglang", "mi355x", both, engine.Refuses, "no scheme"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := engine.Find(tc.who)
			require.NoError(t, err)
			d, err := engine.FindDevice(tc.on)
			require.NoError(t, err)
			rows := engine.Judge(engine.Subject{Config: cfg, Layout: engine.Quark, Experts: tc.part, Shared: tc.part}, engine.Query{Releases: []engine.Release{r}, Hardware: &d})
			assert.Equal(t, tc.want, rows[0].Answer, rows[0].Rule)
			assert.Contains(t, rows[0].Rule, tc.says)
		})
	}
}

// TestTakes: an engine knows some form of a layout, whoever it was made for.
func TestTakes(t *testing.T) {
	tests := []struct {
		name   string
		engine engine.Engine
		layout engine.Layout
		want   bool
	}{
		{"vllm-ascend and its own", engine.Ascend, engine.AscendLayout, true},
		{"vllm-ascend and compressed-tensors", engine.Ascend, engine.CompressedTensors, true},
		{"vllm-ascend and GPTQ", engine.Ascend, engine.GPTQ, false},
		{"vLLM and GPTQ", engine.VLLM, engine.GPTQ, true},
		{"vLLM and Ascend's", engine.VLLM, engine.AscendLayout, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, engine.Takes(tt.engine, tt.layout)) })
	}
}
