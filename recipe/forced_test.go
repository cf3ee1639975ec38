package recipe

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// flagValues are the values of a flag in a command.
func flagValues(argv []string, flag string) (out []string) {
	for i, w := range argv {
		if w == flag && i+1 < len(argv) {
			out = append(out, argv[i+1])
		}
	}
	return out
}

// TestForcedCache: the type that was asked for is what the command says, or is
// refused: the memory's figures rest on it.
func TestForcedCache(t *testing.T) {
	for _, tc := range []struct {
		name, model, scheme, engine, hardware, goal, kv string
		want                                            []string
		rule                                            int
	}{
		{"vLLM fp8", "glm-5", "fp8", "vllm", "h200:8", "", "fp8", []string{"fp8"}, 0},
		{"vLLM bf16", "glm-5", "fp8", "vllm", "h200:8", "", "bf16", []string{"bfloat16"}, 0},
		{"vLLM auto", "glm-5", "fp8", "vllm", "h200:8", "", "auto", nil, 0},
		{"SGLang fp8", "glm-5", "fp8", "sglang", "h200:8", "", "fp8", []string{"fp8_e4m3"}, 0},
		{"SGLang bf16 against the cell", "glm-5.2", "nvfp4", "sglang", "b300:8", "latency", "bf16", []string{"bfloat16"}, 0},
		{"SGLang auto is the cell's", "glm-5.2", "nvfp4", "sglang", "b300:8", "latency", "auto", []string{"fp8_e4m3"}, 0},
		{"Ascend fp8, latent", "glm-5", "w4a8", "vllm-ascend", "ascend-a3:16", "", "fp8", nil, 3},
		{"Ascend fp8, GQA", "glm-4.7", "w8a8", "vllm-ascend", "ascend-a3:16", "", "fp8", nil, 3},
		{"Ascend bf16", "glm-5", "w4a8", "vllm-ascend", "ascend-a3:16", "", "bf16", nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			format := ""
			if tc.engine == "vllm-ascend" {
				format = "ascend"
			}
			r, err := Decide(Query{Model: preset(t, tc.model, tc.scheme, format), Release: release(t, tc.engine), Hardware: machines(t, tc.hardware),
				Goal: tc.goal, KV: tc.kv, MTP: AutoMTP, MaxModelLen: 16384})
			require.NoError(t, err)
			if tc.rule > 0 {
				require.NotNil(t, r.Refused)
				assert.Equal(t, tc.rule, r.Refused.Rule, r.Refused.Detail)
				assert.Contains(t, r.Refused.Nearest, "leave --kv-dtype out")
				return
			}
			require.Nil(t, r.Refused, "%+v", r.Refused)
			assert.Equal(t, tc.want, flagValues(r.Nodes[0].Argv, "--kv-cache-dtype"))
		})
	}
}

// TestForcedAgainstCell: what the user asks for wins over a published set-up's flags.
func TestForcedAgainstCell(t *testing.T) {
	ask := Query{Model: preset(t, "glm-5.2", "nvfp4", ""), Release: release(t, "sglang"), Hardware: machines(t, "b300:8"), Goal: Latency, MTP: AutoMTP,
		MaxModelLen: 8192}
	r, err := Decide(ask)
	require.NoError(t, err)
	require.Nil(t, r.Refused)
	assert.Equal(t, []string{"16"}, flagValues(r.Nodes[0].Argv, "--max-running-requests"))
	ask.Concurrency = 40
	r, err = Decide(ask)
	require.NoError(t, err)
	require.Nil(t, r.Refused)
	assert.Empty(t, flagValues(r.Nodes[0].Argv, "--max-running-requests"), "40 at once were asked for")

	ascend := Query{Model: preset(t, "glm-5", "w4a8", ""), Release: release(t, "vllm-ascend@0.20"), Hardware: machines(t, "ascend-a3:16"), MTP: AutoMTP,
		MaxModelLen: 8192, Concurrency: 20}
	r, err = Decide(ascend)
	require.NoError(t, err)
	require.Nil(t, r.Refused)
	assert.Equal(t, []string{"20"}, flagValues(r.Nodes[0].Argv, "--max-num-seqs"))

	off := Query{Model: preset(t, "glm-5.2", "nvfp4", ""), Release: release(t, "sglang"), Hardware: machines(t, "b300:8"), Goal: Balanced, MTP: 0}
	r, err = Decide(off)
	require.NoError(t, err)
	require.Nil(t, r.Refused)
	assert.NotContains(t, r.Nodes[0].Argv, "--speculative-attention-mode")
}

// TestForcedExperts: --ep is a degree.
func TestForcedExperts(t *testing.T) {
	for _, tc := range []struct {
		name, engine   string
		tp, ep, dp, pp int
		want           string // "": exit 2
	}{
		{"vLLM TP8 EP8", "vllm", 8, 8, 0, 0, "TP8+EP8"},
		{"vLLM TP2 x DP4, EP8", "vllm", 2, 8, 0, 0, "4 x TP2+EP8"},
		{"vLLM EP off", "vllm", 8, 1, 0, 0, "TP8"},
		{"vLLM EP3", "vllm", 8, 3, 0, 0, ""},
		{"vLLM EP4 of eight", "vllm", 8, 4, 0, 0, ""},
		{"SGLang TP8 EP8", "sglang", 8, 8, 0, 0, "TP8+EP8"},
		{"SGLang TP8 EP4", "sglang", 8, 4, 0, 0, ""},
		{"SGLang EP4", "sglang", 0, 4, 0, 0, "2 x TP4+EP4"},
		{"SGLang TP4 EP8", "sglang", 4, 8, 0, 0, ""},
		{"PP3 of eight", "vllm", 0, 0, 0, 3, ""},
		{"DP3 of eight", "vllm", 0, 0, 3, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := Decide(Query{Model: preset(t, "glm-4.5-air", "", ""), Release: release(t, tc.engine), Hardware: machines(t, "h200:8"),
				TP: tc.tp, EP: tc.ep, DP: tc.dp, PP: tc.pp, MTP: 0})
			if tc.want == "" {
				var u *UsageError
				require.True(t, errors.As(err, &u), "%v, %+v", err, r)
				return
			}
			require.NoError(t, err)
			require.Nil(t, r.Refused, "%+v", r.Refused)
			assert.Equal(t, tc.want, r.Degrees)
		})
	}
}

// TestPairWithoutParsers: "none" is no parser, in prefill and decode too.
func TestPairWithoutParsers(t *testing.T) {
	for _, tc := range []struct {
		name, tools, reasoning string
		absent                 []string
	}{
		{"none", "none", "none", []string{"--tool-call-parser", "--enable-auto-tool-choice", "--reasoning-parser"}},
		{"reasoning alone", "none", "", []string{"--tool-call-parser", "--enable-auto-tool-choice"}},
		{"tools alone", "", "none", []string{"--reasoning-parser"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := Decide(Query{Model: preset(t, "glm-5", "w8a8", "ascend"), Release: release(t, "vllm-ascend"), Hardware: machines(t, "ascend-a3:16"),
				Topology: "pd", Prefill: Group{2, 16}, Decode: Group{4, 16}, MTP: AutoMTP, Tools: tc.tools, Reasoning: tc.reasoning})
			require.NoError(t, err)
			require.Nil(t, r.Refused, "%+v", r.Refused)
			for _, n := range r.Nodes {
				assert.NotContains(t, n.Argv, "none")
				for _, f := range []string{"--tool-call-parser", "--enable-auto-tool-choice", "--reasoning-parser"} {
					assert.Equal(t, !slices.Contains(tc.absent, f), slices.Contains(n.Argv, f), f)
				}
			}
		})
	}
}

// TestForcedPair: forced degrees hold for prefill and decode.
func TestForcedPair(t *testing.T) {
	ask := Query{Model: preset(t, "glm-5", "w8a8", "ascend"), Release: release(t, "vllm-ascend"), Hardware: machines(t, "ascend-a3:16"),
		Topology: "pd", Prefill: Group{2, 16}, Decode: Group{4, 16}, MTP: AutoMTP, TP: 16}
	r, err := Decide(ask)
	require.NoError(t, err)
	require.Nil(t, r.Refused, "%+v", r.Refused)
	for _, n := range r.Nodes {
		assert.Equal(t, []string{"16"}, flagValues(n.Argv, "--tensor-parallel-size"), n.Role)
	}
	ask.EP = 3
	_, err = Decide(ask)
	var u *UsageError
	assert.True(t, errors.As(err, &u), "%v", err)
}
