package runtime

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestGQADeterminism: glm4_moe models of random shape; the layouts are in
// TestDeterminism, the latent families in TestMLADeterminism.
func TestGQADeterminism(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		kv := rapid.IntRange(1, 3).Draw(t, "kv heads")
		experts := rapid.IntRange(1, 7).Draw(t, "experts")
		cfg := tinyConfig(t, map[string]any{
			"num_key_value_heads": kv, "num_attention_heads": kv * rapid.IntRange(1, 3).Draw(t, "group"), "head_dim": 4 * rapid.IntRange(1, 4).Draw(t, "dim"),
			"hidden_size": rapid.IntRange(1, 40).Draw(t, "hidden"), "moe_intermediate_size": rapid.IntRange(1, 30).Draw(t, "width"),
			"attention_bias": rapid.Bool().Draw(t, "bias"), "use_qk_norm": rapid.Bool().Draw(t, "norm"),
			"n_routed_experts": experts, "num_experts_per_tok": rapid.IntRange(1, experts).Draw(t, "top k"),
			"norm_topk_prob": rapid.Bool().Draw(t, "normalize"), "first_k_dense_replace": rapid.IntRange(0, 3).Draw(t, "dense"),
		})
		w := random(cfg, rapid.Uint64().Draw(t, "seed"))
		ids, other := draw(t, cfg.VocabSize, 1, 30), draw(t, cfg.VocabSize, 1, 12)
		o := EvalOptions{Logits: true, Hidden: true, MTP: 3}
		want, err := resident(t, cfg, w, Options{Threads: 1}).Evaluate(ctx, [][]int{ids}, o)
		require.NoError(t, err)

		m := resident(t, cfg, w, Options{Threads: 3, Chunk: rapid.IntRange(1, 9).Draw(t, "chunk"), Block: rapid.IntRange(0, 12).Draw(t, "block")})
		got, err := m.Evaluate(ctx, [][]int{other, ids, other}, o)
		require.NoError(t, err)
		require.Equal(t, want[0], got[1], "threads and batch")

		p, err := NewStreaming(cfg, w, int64(rapid.IntRange(1, 400).Draw(t, "tile")))
		require.NoError(t, err)
		sm, err := New(cfg, p, Options{Threads: 2})
		require.NoError(t, err)
		got, err = sm.Evaluate(ctx, [][]int{ids}, o)
		require.NoError(t, err)
		require.Equal(t, want, got, "streamed")

		h, err := m.NewSession().Forward(ctx, ids)
		require.NoError(t, err)
		require.Equal(t, want[0].Final, h, "chunks")

		s := m.NewSession()
		h = nil
		for lo := 0; lo < len(ids); {
			hi := min(len(ids), lo+rapid.IntRange(1, 6).Draw(t, "piece"))
			x, err := s.Forward(ctx, ids[lo:hi])
			require.NoError(t, err)
			h = append(h, x...)
			_, err = s.Forward(ctx, other[:min(len(other), 4)])
			require.NoError(t, err)
			s.Truncate(hi)
			lo = hi
		}
		require.Equal(t, want[0].Final, h, "pieces, with drafts taken back")
	})
}
