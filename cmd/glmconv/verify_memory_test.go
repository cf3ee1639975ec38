//go:build linux

package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/rss"
	"github.com/glmconv/glmconv/internal/synth"
)

// peak runs a command and returns what it says and the most memory it was seen
// to hold; the caller judges the exit code.
func peak(t *testing.T, cmd *exec.Cmd) (out []byte, most int64) {
	t.Helper()
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	most, _ = rss.Run(cmd)
	require.Positive(t, most)
	return b.Bytes(), most
}

// TestVerifyMemory: verify of checkpoints of each family's own parts (latent
// attention, indexers and MTP layer; tower and three-axis positions), several
// times as large as --max-memory, stays below it, as the system counts.
func TestVerifyMemory(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector's own memory would be counted")
	}
	const limit = 80 << 20
	const experts = `"first_k_dense_replace": 1, "hidden_act": "silu", "intermediate_size": 2560, "moe_intermediate_size": 1024, "n_group": 1, "n_routed_experts": 12,
 "n_shared_experts": 1, "norm_topk_prob": true, "num_experts_per_tok": 2, "rms_norm_eps": 1e-05, "routed_scaling_factor": 1.0, "topk_group": 1, "max_position_embeddings": 512,
 "vocab_size": 2048, "hidden_size": 1024`
	for name, config := range map[string]string{
		"glm_moe_dsa": `{"architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa", "eos_token_id": [2], "pad_token_id": 0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
 "num_hidden_layers": 3, "num_nextn_predict_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 8, "q_lora_rank": 512, "kv_lora_rank": 256, "qk_nope_head_dim": 128,
 "qk_rope_head_dim": 64, "v_head_dim": 128, "attention_bias": false, "index_n_heads": 8, "index_head_dim": 128, "index_topk": 16, "indexer_rope_interleave": true,
 "rope_theta": 1000000, "topk_method": "noaux_tc", ` + experts + `}`,
		"glm4v_moe": `{"architectures": ["Glm4vMoeForConditionalGeneration"], "model_type": "glm4v_moe", "image_token_id": 10, "video_token_id": 11, "image_start_token_id": 12,
 "image_end_token_id": 13, "video_start_token_id": 14, "video_end_token_id": 15, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
 "text_config": {"model_type": "glm4v_moe_text", "attention_bias": true, "eos_token_id": [2], "pad_token_id": 0, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2,
  "head_dim": 128, "use_qk_norm": false, "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rope_scaling": {"rope_type": "default", "mrope_section": [8, 12, 12]}, ` + experts + `},
 "vision_config": {"model_type": "glm4v_moe_vision", "depth": 6, "hidden_size": 512, "num_heads": 8, "in_channels": 3, "image_size": 112, "patch_size": 14, "temporal_patch_size": 2,
  "spatial_merge_size": 2, "out_hidden_size": 1024, "intermediate_size": 2560, "attention_bias": false, "hidden_act": "silu", "rms_norm_eps": 1e-05}}`,
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := synth.NewPlan(synth.Options{Config: []byte(config), Seed: 3, ShardBytes: 48 << 20})
			require.NoError(t, err)
			require.Greater(t, plan.Bytes, int64(3*limit), "not several times the limit")
			dir := t.TempDir()
			src, dst := filepath.Join(dir, "source"), filepath.Join(dir, "result")
			require.NoError(t, plan.Write(t.Context(), src))
			out, err := exec.Command("glmconv", "quantize", "--progress", "none", "--scheme", "w8a8", src, dst).CombinedOutput()
			require.NoError(t, err, "%s", out)

			cmd := exec.Command("glmconv", "verify", "--progress", "none", "--state", "none", "--max-memory", "80MiB", "--tokens", "96", "--seq-len", "32", src, dst)

			out, most := peak(t, cmd)
			// Random weights have flat logits: no verdict is as good as a pass.
			require.Contains(t, []int{0, 3}, cmd.ProcessState.ExitCode(), "%s", out)
			t.Logf("%d MiB of source, peak %d MiB of %d", plan.Bytes>>20, most>>20, limit>>20)
			assert.Less(t, most, int64(limit))
		})
	}
}
