package verify_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify"
)

// Random weights make logits so flat that no fault would show: undecided.
func TestFlatLogitsAreUndecided(t *testing.T) {
	config, err := json.Marshal(map[string]any{
		"model_type": "glm4_moe", "architectures": []string{"Glm4MoeForCausalLM"}, "hidden_act": "silu",
		"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,
		"partial_rotary_factor": 0.5, "rope_theta": 10000, "rms_norm_eps": 1e-5, "attention_bias": true,
		"intermediate_size": 128, "moe_intermediate_size": 128, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
		"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.5,
		"num_nextn_predict_layers": 1, "vocab_size": 512, "max_position_embeddings": 512, "eos_token_id": []int{1}, "tie_word_embeddings": false,
	})
	require.NoError(t, err)
	plan, err := synth.NewPlan(synth.Options{Config: config, Seed: 3})
	require.NoError(t, err)
	src := filepath.Join(t.TempDir(), "source")
	require.NoError(t, plan.Write(t.Context(), src))
	r, text := compare(t, src, convertTo(t, src, layout.W8A8, layout.CompressedTensors), verify.Options{})
	assert.Equal(t, verify.Undecided, r.Verdict, text)
	assert.Contains(t, r.Reason, "flat", text)
	assert.Less(t, r.Logits.Sigma, 0.5)
}
