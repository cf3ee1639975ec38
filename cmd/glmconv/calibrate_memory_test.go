//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
)

// largeConfig is one of latent attention with indexers, several times as large as
// the memory that calibrate and quantize get.
const largeConfig = `{"architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa", "eos_token_id": [2], "pad_token_id": 0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
 "num_hidden_layers": LAYERS, "num_nextn_predict_layers": MTP, "num_attention_heads": 12, "num_key_value_heads": 12, "q_lora_rank": WIDTH, "kv_lora_rank": 128, "qk_nope_head_dim": 128,
 "qk_rope_head_dim": 64, "v_head_dim": 128, "attention_bias": false, "index_n_heads": 8, "index_head_dim": 128, "index_topk": 16, "indexer_rope_interleave": true,
 "rope_theta": 1000000, "topk_method": "noaux_tc", "first_k_dense_replace": 1, "hidden_act": "silu", "intermediate_size": 1024, "moe_intermediate_size": INNER, "n_group": 1,
 "n_routed_experts": EXPERTS, "n_shared_experts": 1, "norm_topk_prob": true, "num_experts_per_tok": 2, "rms_norm_eps": 1e-05, "routed_scaling_factor": 1.0, "topk_group": 1,
 "max_position_embeddings": 512, "vocab_size": 2048, "hidden_size": WIDTH}`

// TestCalibrateMemory: calibrate, quantize --method gptq, searching folds and quantize
// --rotate --calib stay below --max-memory, as the system counts, with states and inputs
// of the tokens, and moments of o_proj, that would not fit, on many threads too. In make torture the checkpoint is twenty
// times as large as the limit.
func TestCalibrateMemory(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector's own memory would be counted")
	}
	limit, layers, experts, width, inner, count, length, times := int64(200<<20), "2", "2", "256", "256", 10, 512, int64(0)
	if os.Getenv("GLMCONV_TORTURE") != "" {
		limit, layers, experts, inner, count, length, times = 224<<20, "23", "256", "512", 8, 256, 20
	}
	config := strings.NewReplacer("LAYERS", layers, "EXPERTS", experts, "WIDTH", width, "INNER", inner, "MTP", fmt.Sprint(min(times, 1))).Replace(largeConfig)
	plan, err := synth.NewPlan(synth.Options{Config: []byte(config), Seed: 3, ShardBytes: 256 << 20})
	require.NoError(t, err)
	if times > 0 {
		require.GreaterOrEqual(t, plan.Bytes, times*limit)
	}
	dir := t.TempDir()
	src, ids := filepath.Join(dir, "source"), filepath.Join(dir, "ids.json")
	require.NoError(t, plan.Write(t.Context(), src))
	seqs := make([][]int, 64)
	for i := range seqs {
		for k := range length {
			seqs[i] = append(seqs[i], 5+(i*i*31+k*7919+k*k*i)%2000)
		}
	}
	raw, err := json.Marshal(seqs[:count])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ids, raw, 0o600))
	stats := filepath.Join(dir, "stats")
	out := filepath.Join(dir, "out")
	for _, args := range [][]string{
		{"calibrate", "--token-ids", ids, "--tokens", "32768", src, stats},
		{"quantize", "--scheme", "w4a16", "--calib", stats, "--method", "gptq", "--fold", "gamma", "--workers", "96", src, out},
		{"plan", "--scheme", "w8a8", "--calib", stats, "--method", "search", "--workers", "96", src}, // searches folds
		{"quantize", "--rotate", "--scheme", "w8a8", "--format", "ascend", "--calib", stats, "--method", "search", "--fold", "gamma", src, out},
	} {
		begin := time.Now()
		cmd := exec.Command("glmconv", append(args[:1:1], append([]string{"--progress", "none", "--max-memory", fmt.Sprint(limit)}, args[1:]...)...)...)
		text, most := peak(t, cmd)
		require.Zero(t, cmd.ProcessState.ExitCode(), "%s", text)
		t.Logf("%s: %d MiB of source, peak %d MiB of %d, %s", strings.Join(args[:2], " "), plan.Bytes>>20, most>>20, limit>>20, time.Since(begin).Round(time.Second))
		assert.Less(t, most, limit, args[0])
		require.NoError(t, os.RemoveAll(out))
	}
}
