package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/synth"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/spec"
	"github.com/glmconv/glmconv/safetensors"
)

// TestDeterminism: random models, unquantised and in every layout that quantize
// writes. The bits of a token's logits and drafts do not depend on threads,
// chunks, the rest of the batch, rewound drafts, tiles, or the depth of
// speculation.
func TestDeterminism(t *testing.T) {
	for seed := range uint64(2) {
		dir := filepath.Join(t.TempDir(), "source")
		writeModel(t, dir, seed)
		t.Run(fmt.Sprintf("bf16/%d", seed), func(t *testing.T) { sameBits(t, dir, seed) })
		src, err := safetensors.OpenDir(dir)
		require.NoError(t, err)
		defer src.Close()
		seen := 0
		for _, s := range layout.Schemes {
			for _, f := range layout.Formats {
				if layout.Supported(s, f) != nil || s == layout.BF16 || s.Calibrated() {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%d", s, f, seed), func(t *testing.T) {
					plan, err := quant.NewPlan(src, s, f, quant.Options{})
					var impossible *layout.ImpossibleError
					if errors.As(err, &impossible) {
						t.Skip(err)
					}
					require.NoError(t, err)
					dst := filepath.Join(t.TempDir(), "result")
					_, err = convert.Run(context.Background(), plan, src, dst, convert.Options{Workers: 2, Version: "test"})
					require.NoError(t, err)
					sameBits(t, dst, seed)
					seen++
				})
			}
		}
		assert.GreaterOrEqual(t, seen, 7, "layouts")
	}
}

func writeModel(t *testing.T, dir string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 5))
	config, err := json.Marshal(map[string]any{
		"model_type": "glm4_moe", "architectures": []string{"Glm4MoeForCausalLM"}, "hidden_act": "silu",
		"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
		"partial_rotary_factor": 0.5, "rope_theta": 10000, "rms_norm_eps": 1e-5, "attention_bias": seed%2 == 0, "use_qk_norm": seed%2 == 1,
		"intermediate_size": 256, "moe_intermediate_size": 256, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 1 + r.IntN(3),
		"first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.5,
		"num_nextn_predict_layers": 1, "vocab_size": 64, "max_position_embeddings": 512, "eos_token_id": []int{1}, "tie_word_embeddings": false,
	})
	require.NoError(t, err)
	plan, err := synth.NewPlan(synth.Options{Config: config, Seed: seed})
	require.NoError(t, err)
	require.NoError(t, plan.Write(context.Background(), dir))
}

// sameBits compares every way to compute a sequence with the first.
func sameBits(t *testing.T, dir string, seed uint64) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(seed, 6))
	tokens := func(n int) []int {
		ids := make([]int, n)
		for i := range ids {
			ids[i] = r.IntN(64)
		}
		return ids
	}
	ids, other := tokens(14), tokens(9)
	eval := func(m *runtime.Model, seqs ...[]int) runtime.Evaluation {
		out, err := m.Evaluate(ctx, seqs, runtime.EvalOptions{Logits: true, MTP: 2})
		require.NoError(t, err)
		return out[len(out)-1]
	}
	open := func(o runtime.Options) *runtime.Model {
		m, err := runtime.Load(dir, o)
		require.NoError(t, err)
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	want := eval(open(runtime.Options{Threads: 1}), ids)
	same := func(what string, got runtime.Evaluation) {
		require.Equal(t, want.Logits, got.Logits, what)
		require.Equal(t, want.MTP, got.MTP, what)
	}
	m := open(runtime.Options{Threads: 3, Chunk: 1 + r.IntN(5), Block: r.IntN(9)})
	same("threads", eval(m, ids))
	same("batch", eval(m, other, ids))

	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	ckpt, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer ckpt.Close()
	p, err := runtime.NewStreaming(cfg, ckpt, int64(1+r.IntN(40000)))
	require.NoError(t, err)
	streamed, err := runtime.New(cfg, p, runtime.Options{Threads: 2})
	require.NoError(t, err)
	same("streamed", eval(streamed, ids))

	h, err := m.NewSession().Forward(ctx, ids)
	require.NoError(t, err)
	z, err := m.Logits(ctx, h)
	require.NoError(t, err)
	require.Equal(t, want.Logits, z, "chunks")

	s := m.NewSession()
	h = nil
	for lo := 0; lo < len(ids); {
		hi := min(len(ids), lo+1+r.IntN(4))
		x, err := m.Forward(ctx, []runtime.Step{{Session: m.NewSession(), IDs: other}, {Session: s, IDs: ids[lo:hi]}}, nil)
		require.NoError(t, err)
		h = append(h, x[len(other)*256:]...)
		_, err = s.Forward(ctx, tokens(1+r.IntN(4))) // drafts that are refused
		require.NoError(t, err)
		s.Truncate(hi)
		lo = hi
	}
	z, err = m.Logits(ctx, h)
	require.NoError(t, err)
	require.Equal(t, want.Logits, z, "pieces, beside another sequence, rewound")

	plain, err := spec.Generate(ctx, m, ids, spec.Options{MaxTokens: 8})
	require.NoError(t, err)
	for k := 1; k <= 3; k++ {
		out, err := spec.Generate(ctx, m, ids, spec.Options{MaxTokens: 8, Drafts: k})
		require.NoError(t, err)
		require.Equal(t, plain.Tokens, out.Tokens, "%d drafts", k)
	}
}
