package recipe

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/engine"
)

var models sync.Map

// preset makes each model once: planning GLM-5 takes a moment.
func preset(t *testing.T, name, scheme, format string) *Model {
	t.Helper()
	key := name + " " + scheme + " " + format
	if m, ok := models.Load(key); ok {
		return m.(*Model)
	}
	m, err := Published(name, scheme, format)
	require.NoError(t, err, key)
	models.Store(key, m)
	return m
}

func release(t *testing.T, name string) engine.Release {
	t.Helper()
	r, err := engine.Find(name)
	require.NoError(t, err)
	return r
}

func machines(t *testing.T, text string) Hardware {
	t.Helper()
	h, err := ParseHardware(text)
	require.NoError(t, err)
	return h
}

// TestPublishedSetUps: what people run fits, and the next step up does not.
func TestPublishedSetUps(t *testing.T) {
	const gib = 1 << 30
	for _, tc := range []struct {
		name, model, scheme, engine, hardware string
		len                                   int
		verdict                               string
		weights                               float64 // GiB a rank, 0: not compared
	}{
		{"Air BF16 on 4 A100", "glm-4.5-air", "", "sglang", "a100-80g:4", 0, "fits", 51.4},
		{"GLM-4.5 BF16 on 8 A100", "glm-4.5", "", "vllm", "a100-80g:8", 0, "refused", 83.4},
		{"GLM-4.6 BF16 on 8 H100", "glm-4.6", "", "sglang", "h100:8", 0, "refused", 0},
		{"GLM-4.5 w8a8 on 8 A100", "glm-4.5", "w8a8", "sglang", "a100-80g:8", 0, "fits", 41.7},
		{"GLM-5 w4a8 on A3, 200000", "glm-5", "w4a8", "vllm-ascend@0.20", "ascend-a3:16", 200000, "fits", 26.5},
		{"GLM-5 w8a8 on A3, 40960", "glm-5", "w8a8", "vllm-ascend@0.20", "ascend-a3:16", 40960, "fits", 47},
		{"GLM-5 w8a8 on A3, 200000", "glm-5", "w8a8", "vllm-ascend@0.20", "ascend-a3:16", 200000, "refused", 0},
		{"GLM-5 w8a8 on two A3, 200000", "glm-5", "w8a8", "vllm-ascend@0.20", "ascend-a3:16x2", 200000, "fits", 0},
		{"GLM-5 w4a8 on A2, 32768", "glm-5", "w4a8", "vllm-ascend@0.20", "ascend-a2:8", 32768, "tight", 50},
		{"GLM-5 BF16 on 8 MI300X", "glm-5", "", "sglang", "mi300x:8", 0, "refused", 0},
		{"GLM-5.1 BF16 on 8 MI300X", "glm-5.1", "", "sglang", "mi300x:8", 0, "refused", 0},
		{"GLM-5.2 BF16 on 8 MI325X", "glm-5.2", "", "sglang", "mi325x:8", 0, "fits", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := Decide(Query{Model: preset(t, tc.model, tc.scheme, ""), Release: release(t, tc.engine), Hardware: machines(t, tc.hardware),
				MaxModelLen: tc.len, MTP: AutoMTP})
			require.NoError(t, err)
			got := "fits"
			switch {
			case r.Refused != nil:
				got = "refused"
				assert.Equal(t, 12, r.Refused.Rule, r.Refused.Detail)
				assert.NotEmpty(t, r.Refused.Nearest)
			case r.Tight:
				got = "tight"
			}
			assert.Equal(t, tc.verdict, got, r.Explain())
			if tc.weights > 0 && r.Memory != nil && r.chosen.attnDP == 1 {
				c := *r.chosen
				c.drafts = 0
				assert.InDelta(t, tc.weights, float64(c.Model.Trunk.Total()+c.Model.Draft.Total())/float64(c.tp*c.dp)/gib, 4, "of an even share")
			}
		})
	}
}

// TestCacheBytes: keys and values of a token, MTP layer included.
func TestCacheBytes(t *testing.T) {
	for _, tc := range []struct {
		model, engine, kv string
		tp, drafts        int
		want              int64
	}{
		{"glm-4.5-air", "vllm", "bf16", 1, 1, 192512},
		{"glm-4.5-air", "vllm", "bf16", 4, 1, 48128},
		{"glm-4.5-air", "vllm", "fp8", 8, 1, 12032},
		{"glm-4.5-air", "vllm", "bf16", 16, 1, 24064}, // one KV head a rank at the least
		{"glm-4.5v", "vllm", "bf16", 8, 0, 23552},
		{"glm-4.7", "vllm", "bf16", 4, 1, 95232},
		{"glm-4.7-flash", "vllm", "bf16", 4, 1, 55296}, // latents are not split
		{"glm-5", "vllm", "bf16", 8, 1, 101436},
		{"glm-5", "vllm", "fp8", 8, 1, 62252},
		{"glm-5", "vllm-ascend", "bf16", 8, 1, 111232},
		{"glm-5.2", "sglang", "bf16", 8, 1, 93912},
		{"glm-5.2", "sglang", "fp8", 8, 1, 54728},
	} {
		c := candidate{Query: &Query{Model: preset(t, tc.model, "", ""), Release: release(t, tc.engine), Hardware: machines(t, "h200:8")},
			tp: tc.tp, pp: 1, dp: 1, attnDP: 1, drafts: tc.drafts, kv: tc.kv}
		assert.Equal(t, tc.want, c.cacheBytes(false), "%s %s %s TP%d", tc.model, tc.engine, tc.kv, tc.tp)
	}
}

// TestWinners: the degrees that measured best come out.
func TestWinners(t *testing.T) {
	for _, tc := range []struct{ model, scheme, format, engine, hardware, want string }{
		{"glm-4.5-air", "", "", "sglang", "a100-80g:4", "TP4+EP4"},
		{"glm-4.5-air", "fp8", "", "sglang", "h100:4", "TP4+EP4"},
		{"glm-4.6", "fp8", "", "sglang", "h200:8", "2 x TP4"},
	} {
		r, err := Decide(Query{Model: preset(t, tc.model, tc.scheme, tc.format), Release: release(t, tc.engine), Hardware: machines(t, tc.hardware), MTP: AutoMTP})
		require.NoError(t, err)
		require.Nil(t, r.Refused, tc.model)
		assert.Equal(t, tc.want, r.Degrees, tc.model)
	}
}

// TestRefusals: each rule says its number, and something else works.
func TestRefusals(t *testing.T) {
	air := func(t *testing.T) *Model { return preset(t, "glm-4.5-air", "", "") }
	for _, tc := range []struct {
		name string
		q    func(t *testing.T) Query
		rule int
	}{
		{"FP8 with SGLang on Ampere", func(t *testing.T) Query {
			return Query{Model: preset(t, "glm-4.5-air", "fp8", ""), Release: release(t, "sglang"), Hardware: machines(t, "a100-80g:4")}
		}, 2},
		{"sparse attention on Ampere", func(t *testing.T) Query {
			return Query{Model: preset(t, "glm-5", "w8a8", "compressed-tensors"), Release: release(t, "vllm"), Hardware: machines(t, "a100-80g:8x4")}
		}, 5},
		{"three devices", func(t *testing.T) Query {
			return Query{Model: air(t), Release: release(t, "sglang"), Hardware: machines(t, "h200:3"), TP: 3}
		}, 8},
		{"pipeline of SGLang", func(t *testing.T) Query {
			return Query{Model: air(t), Release: release(t, "sglang"), Hardware: machines(t, "h200:4"), PP: 4}
		}, 6},
		{"pipeline of vLLM with drafts", func(t *testing.T) Query {
			return Query{Model: air(t), Release: release(t, "vllm"), Hardware: machines(t, "h200:4"), PP: 2, MTP: 1}
		}, 7},
		{"a reasoning parser that nobody has", func(t *testing.T) Query {
			return Query{Model: air(t), Release: release(t, "sglang"), Hardware: machines(t, "h200:4"), Reasoning: "glm47"}
		}, 14},
		{"drafts without an MTP layer", func(t *testing.T) Query {
			return Query{Model: preset(t, "glm-4.5v", "", ""), Release: release(t, "vllm"), Hardware: machines(t, "h200:4"), MTP: 2}
		}, 15},
		{"BF16 drafts on Ascend without copies", func(t *testing.T) Query {
			return Query{Model: preset(t, "glm-5", "", ""), Release: release(t, "vllm-ascend"), Hardware: machines(t, "ascend-a3:16x2"), MTP: 3}
		}, 15},
		{"longer than memory", func(t *testing.T) Query {
			return Query{Model: air(t), Release: release(t, "vllm"), Hardware: machines(t, "a100-80g:4"), MaxModelLen: 131072, Concurrency: 64}
		}, 12},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := Decide(tc.q(t))
			require.NoError(t, err)
			require.NotNil(t, r.Refused, "%s", r.Degrees)
			assert.Equal(t, tc.rule, r.Refused.Rule, r.Refused.Detail)
			assert.NotEmpty(t, r.Refused.Nearest, r.Refused.Detail)
		})
	}
}

// TestEveryCombination: no panic, no contradiction of the rules in what is
// printed.
func TestEveryCombination(t *testing.T) {
	var subjects []*Model
	for _, name := range glm.Presets() {
		subjects = append(subjects, preset(t, name, "", ""))
	}
	subjects = append(subjects, preset(t, "glm-4.5-air", "fp8", ""), preset(t, "glm-4.5-air", "w8a8", ""), preset(t, "glm-4.5-air", "w4a8", "ascend"),
		preset(t, "glm-4.5v", "w4a16", ""), preset(t, "glm-5", "w8a8", ""))
	printed := 0
	for _, m := range subjects {
		for _, id := range engine.Devices() {
			for _, size := range []string{"8", "8x2"} {
				hw, err := ParseHardware(id + ":" + size)
				if err != nil {
					continue // no memory in the table
				}
				for _, e := range engine.Engines {
					for _, goal := range Goals {
						for _, q := range []Query{{}, {Topology: "pd", Prefill: Group{1, hw.Devices}, Decode: Group{hw.Nodes, hw.Devices}}} {
							q.Model, q.Release, q.Hardware, q.Goal, q.MTP, q.NoNearest = m, engine.Newest(e), hw, goal, AutoMTP, true
							r, err := Decide(q)
							require.NoError(t, err)
							if r.Refused == nil {
								printed++
								checkSound(t, r, printed%23 == 0)
							}
						}
					}
				}
			}
		}
	}
	assert.Greater(t, printed, 500)
}

func checkSound(t *testing.T, r *Recipe, render bool) {
	t.Helper()
	c := r.chosen
	where := fmt.Sprintf("%s %s on %s: %s", c.Model.Path, r.Query.Release, r.Query.Hardware, r.Degrees)
	if r.Query.Topology != "pd" { // there each node of a GPU group is a server of its own
		require.Equal(t, c.Hardware.Total(), c.tp*c.pp*c.dp, where)
	}
	require.Zero(t, c.Model.Config.Heads%c.tp, where)
	require.Positive(t, r.Memory.Cache, where)
	require.LessOrEqual(t, r.Memory.Needed, r.Memory.Cache, where)
	require.NotEmpty(t, r.Nodes)
	for _, n := range r.Nodes {
		for _, bad := range []string{"--trust-remote-code", "--allowed-local-media-path", "--disable-log-requests", "--max-context-length",
			"--enable-dp-attention", "--cuda-graph-max-bs"} {
			require.NotContains(t, n.Argv, bad, where)
		}
		if i := slices.Index(n.Argv, "--reasoning-parser"); i >= 0 {
			require.Equal(t, "glm45", n.Argv[i+1], where)
		}
		var seen []string
		for _, a := range n.Args {
			if a.Flag != "" {
				require.NotContains(t, seen, a.Flag, where)
				seen = append(seen, a.Flag)
			}
		}
		for _, a := range n.Args {
			if len(a.Value) > 0 && a.Value[0] == '{' {
				require.True(t, json.Valid([]byte(a.Value)), "%s: %s", where, a.Value)
			}
		}
	}
	if !render {
		return
	}
	for _, form := range []string{"command", "script", "docker", "systemd", "env", "json"} {
		_, err := r.Render(form)
		require.NoError(t, err, "%s %s", where, form)
	}
}
