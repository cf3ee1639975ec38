package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
)

// glm45 is a config.json of GLM-4.5 with two layers and an MTP layer.
func glm45(hidden, dense, expert, experts, head int) []byte {
	return fmt.Appendf(nil, `{"architectures": ["Glm4MoeForCausalLM"], "attention_bias": true, "eos_token_id": [2], "first_k_dense_replace": 1, "head_dim": %d,
 "hidden_act": "silu", "hidden_size": %d, "intermediate_size": %d, "max_position_embeddings": 512, "model_type": "glm4_moe", "moe_intermediate_size": %d,
 "n_group": 1, "n_routed_experts": %d, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 8, "num_experts_per_tok": 2, "num_hidden_layers": 2,
 "num_key_value_heads": 2, "num_nextn_predict_layers": 1, "pad_token_id": 0, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05, "rope_theta": 10000,
 "routed_scaling_factor": 1.0, "tie_word_embeddings": false, "topk_group": 1, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "use_qk_norm": false, "vocab_size": 2048}`,
		head, hidden, dense, expert, experts)
}

// bigSource writes about 180 MB with the shapes of GLM-4.5-Air at a quarter of
// its hidden size.
func bigSource(t *testing.T) string {
	t.Helper()
	return sourceOf(t, glm45(1024, 10944, 1408, 6, 128), 24<<20)
}

// sourceOf writes a checkpoint of random weights.
func sourceOf(t *testing.T, config []byte, shard int64) string {
	t.Helper()
	plan, err := synth.NewPlan(synth.Options{Config: config, Seed: 11, ShardBytes: shard})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "source")
	require.NoError(t, plan.Write(t.Context(), dir))
	return dir
}
