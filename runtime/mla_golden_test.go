package runtime

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keySets reads selected keys [rows, k], -1 for none.
func keySets(g arrays, name string, rows int) [][]int32 {
	flat := g.ints(name)
	k, out := len(flat)/rows, make([][]int32, rows)
	for i := range out {
		for _, key := range flat[i*k:][:k] {
			if key >= 0 {
				out[i] = append(out[i], int32(key))
			}
		}
	}
	return out
}

// sameKeys compares what every indexer of the trunk chose.
func sameKeys(t *testing.T, g arrays, seq string, m *Model, e Evaluation) {
	n := 0
	for l := range m.cfg.IndexerFull {
		if !m.cfg.IndexerFull[l] {
			assert.NotContains(t, e.Keys, l)
			continue
		}
		name := fmt.Sprintf("%s.dsa.%d.keys", seq, n)
		assert.Equal(t, keySets(g, name, len(e.Keys[l])), e.Keys[l], name)
		n++
	}
	assert.False(t, g.has(fmt.Sprintf("%s.dsa.%d.keys", seq, n)))
}

// Drafts that share the choice of the first step: nano-glm52's config asks for
// it.
func TestGoldenSharedKeys(t *testing.T) {
	g, m := goldens(t, "nano-glm52/golden.safetensors"), load(t, "nano-glm52", asReference)
	out, err := m.Evaluate(context.Background(), [][]int{g.ints("seq2.ids"), g.ints("seq3.ids")}, EvalOptions{MTP: 3})
	require.NoError(t, err)
	for k := 1; k <= 3; k++ {
		what := fmt.Sprintf("seq2.mtp.shared.%d.logits", k)
		want := g.floats(what)
		assert.Less(t, compare(t, what, want, out[0].MTP[k-1][:len(want)]), tolerance, what)
		for i, e := range out {
			assert.Equal(t, g.ints(fmt.Sprintf("seq%d.mtp.shared.%d.argmax", i+2, k)), Top(e.MTP[k-1], m.cfg.VocabSize))
		}
	}
}

// Chained greedy drafts of every slot, the way an engine drafts: fill the cache
// up to the slot, draft, rewind.
func TestGoldenDrafts(t *testing.T) {
	ctx := context.Background()
	for name, kinds := range map[string]string{"nano-glm5": "mtp", "nano-glm52": "mtp.shared"} {
		g, m := goldens(t, name+"/golden.safetensors"), load(t, name, asReference)
		mtp, err := m.MTP()
		require.NoError(t, err)
		ids := g.ints("seq2.ids")
		h, err := m.NewSession().Forward(ctx, ids)
		require.NoError(t, err)
		want, width := g.ints("seq2."+kinds+".drafts"), m.cfg.HiddenSize
		cache := &LayerCache{}
		for p := range len(ids) - 1 {
			span, next, state := Span{Cache: cache, N: 1, Pos: p}, ids[p+1], h[p*width:][:width]
			var got []int
			for range 3 {
				spans := []Span{span}
				_, out, err := mtp.Step(ctx, []int{next}, state, spans, nil)
				require.NoError(t, err)
				z, err := mtp.Logits(ctx, out)
				require.NoError(t, err)
				next, state = Top(z, m.cfg.VocabSize)[0], out
				got = append(got, next)
				span = mtp.Next(spans[0])
			}
			cache.Truncate(p + 1)
			assert.Equal(t, want[p*3:][:3], got, "%s slot %d", name, p)
		}
	}
}
