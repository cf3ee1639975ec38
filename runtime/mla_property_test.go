package runtime

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/safetensors"
)

// One token, one answer: batch, threads, chunks, tiles, forks and rewinding
// change no bit of a state.
func TestMLADeterminism(t *testing.T) {
	ctx := context.Background()
	for _, family := range []string{"glm_moe_dsa", "glm4_moe_lite"} {
		t.Run(family, rapid.MakeCheck(func(t *rapid.T) {
			cfg := mlaConfig(t, family)
			w := random(cfg, rapid.Uint64().Draw(t, "seed"))
			ids := draw(t, cfg.VocabSize, 2, 40)
			h := cfg.HiddenSize
			want, err := resident(t, cfg, w, Options{Threads: 1}).NewSession().Forward(ctx, ids)
			require.NoError(t, err)

			m := resident(t, cfg, w, Options{Threads: 3, Chunk: rapid.IntRange(1, 16).Draw(t, "chunk"), Block: rapid.IntRange(0, 20).Draw(t, "block")})
			got, err := m.NewSession().Forward(ctx, ids)
			require.NoError(t, err)
			require.Equal(t, want, got, "chunks and threads")

			// In pieces, each followed by a draft that is taken back.
			s := m.NewSession()
			got = nil
			for lo := 0; lo < len(ids); {
				hi := min(len(ids), lo+rapid.IntRange(1, 9).Draw(t, "piece"))
				x, err := s.Forward(ctx, ids[lo:hi])
				require.NoError(t, err)
				got = append(got, x...)
				_, err = s.Forward(ctx, draw(t, cfg.VocabSize, 1, 5))
				require.NoError(t, err)
				s.Truncate(hi)
				lo = hi
			}
			require.Equal(t, want, got, "pieces and rewinding")

			// Beside other sequences in one pass.
			other := draw(t, cfg.VocabSize, 1, 20)
			x, err := m.Forward(ctx, []Step{{m.NewSession(), other}, {m.NewSession(), ids}}, nil)
			require.NoError(t, err)
			require.Equal(t, want, x[len(other)*h:], "batch")

			// From tiles of a few rows.
			p, err := NewStreaming(cfg, w, int64(rapid.IntRange(1, 400).Draw(t, "tile")))
			require.NoError(t, err)
			sm, err := New(cfg, p, Options{Threads: 2})
			require.NoError(t, err)
			x, err = sm.NewSession().Forward(ctx, ids)
			require.NoError(t, err)
			require.Equal(t, want, x, "streamed")

			// Layer by layer on forks of a common beginning.
			cut := rapid.IntRange(1, len(ids)-1).Draw(t, "cut")
			s = m.NewSession()
			_, err = s.Forward(ctx, ids[:cut])
			require.NoError(t, err)
			x, err = m.Embed(ids[cut:])
			require.NoError(t, err)
			spans := []Span{{N: len(ids) - cut, Pos: cut}}
			for l := range m.Layers() {
				spans[0].Cache = s.caches[l].Fork(cut)
				require.NoError(t, m.Layer(ctx, l, x, spans, nil))
			}
			x, err = m.FinalNorm(x)
			require.NoError(t, err)
			require.Equal(t, want[cut*h:], x, "forks")
		}))
	}
}

// Enough work for several goroutines, in both forms.
func TestMLAThreads(t *testing.T) {
	for _, name := range []string{"nano-glm5", "nano-glm52"} {
		ids := goldens(t, name+"/golden.safetensors").ints("seq5.ids")[:100]
		for _, expand := range []bool{false, true} {
			var want Evaluation
			for _, threads := range []int{1, 3} {
				m := load(t, name, Options{Threads: threads, ExpandKV: expand})
				out, err := m.Evaluate(context.Background(), [][]int{ids}, EvalOptions{Logits: true, MTP: 2})
				require.NoError(t, err)
				if threads == 1 {
					want = out[0]
				}
				assert.True(t, slices.Equal(want.Logits, out[0].Logits) && slices.Equal(want.MTP[1], out[0].MTP[1]), "%s, %d threads", name, threads)
			}
		}
	}
}

// A layer that shares a choice says so when the caller lost it.
func TestSharedKeysMissing(t *testing.T) {
	m := load(t, "nano-glm52", Options{})
	x, err := m.Embed([]int{1, 2})
	require.NoError(t, err)
	err = m.Layer(context.Background(), 2, x, []Span{{Cache: &LayerCache{}, N: 2}}, nil)
	require.ErrorIs(t, err, ErrUnsupported)
	assert.ErrorContains(t, err, "Span.Keys")
}

func TestTopKeys(t *testing.T) {
	nan := float32(0)
	nan /= nan
	for _, c := range []struct {
		scores []float32
		k      int
		want   []int32
	}{
		{[]float32{0, 0, 0, 0}, 2, []int32{0, 1}},
		{[]float32{1, 3, 2, 3}, 1, []int32{1}},
		{[]float32{-1, 0, 2, 0, 0}, 3, []int32{1, 2, 3}},
		{[]float32{nan, -5, nan, 1}, 2, []int32{1, 3}},
		{[]float32{4, 5}, 9, []int32{0, 1}},
	} {
		assert.Equal(t, c.want, topKeys(c.scores, c.k))
	}
}

// A quantised kv_b_proj is the BF16 matrix that engines make of it.
func TestQuantizedKVB(t *testing.T) {
	dir := reference(t, "nano-glm5")
	for _, g := range ctSchemes {
		g.keepFloat = func(t glm.Tensor) bool { return t.Role != glm.AttnKVB || g.name == "W4A8" && t.Shape[1]%32 != 0 }
		if g.name == "W4A8" {
			g.block, g.weights = [2]int{1, 32}, args(4, "int", "group", 32)
		}
		cfg, mem := quantized(t, dir, g, numeric.Compat)
		m := resident(t, cfg, mem, Options{})
		flat := newMemory()
		for name, info := range mem.infos {
			flat.add(name, info.DType, mem.data[name], info.Shape...)
		}
		n := 0
		for _, row := range cfg.Table() {
			if row.Role != glm.AttnKVB {
				continue
			}
			q, err := m.p.Tile(&row, 0)
			require.NoError(t, err)
			require.NotNil(t, q.Quant, row.Name)
			x := make([]float32, row.Elements())
			q.Quant.Dequant(x, 0, q.Rows)
			flat.remove(row.Module + ".weight_scale")
			flat.add(row.Name, safetensors.BF16, numeric.AppendBF16(nil, x), row.Shape...)
			n++
		}
		require.Equal(t, 4, n)
		ids := [][]int{{5, 7, 11, 300, 42, 8, 9, 10, 77, 3, 21, 500, 2, 31, 16, 900, 12, 13, 14, 15}}
		want, err := resident(t, cfg, flat, Options{}).Evaluate(context.Background(), ids, EvalOptions{Logits: true, MTP: 1})
		require.NoError(t, err)
		got, err := m.Evaluate(context.Background(), ids, EvalOptions{Logits: true, MTP: 1})
		require.NoError(t, err)
		assert.Equal(t, want[0].Logits, got[0].Logits, g.name)
		assert.Equal(t, want[0].MTP, got[0].MTP, g.name)
	}
}

// Mutations of the family: what each costs in logits and in chosen tokens. The
// comparison has to see all of them.
func TestMLAMutations(t *testing.T) {
	g, dir := goldens(t, "nano-glm5/golden.safetensors"), reference(t, "nano-glm5")
	ids := g.ints("seq5.ids")
	eval := func(cfg *glm.Config, w Source, edit func(m *Model)) Evaluation {
		m := resident(t, cfg, w, asReference)
		if edit != nil {
			edit(m)
		}
		out, err := m.Evaluate(context.Background(), [][]int{ids}, EvalOptions{Logits: true, Keys: true})
		require.NoError(t, err)
		return out[0]
	}
	keepAll := ctGroup{keepFloat: func(glm.Tensor) bool { return true }}
	cfg, w := quantized(t, dir, keepAll, numeric.Compat)
	sound := eval(cfg, w, nil)
	sameKeys(t, g, "seq5", load(t, "nano-glm5", asReference), sound)
	c := cfg
	for name, mutate := range map[string]func(w *memory) func(m *Model){
		"indexer pairs half-split": func(*memory) func(m *Model) {
			return func(m *Model) { m.att.(*mla).ix.turn = pairing(false) }
		},
		"k_norm as RMSNorm": func(*memory) func(m *Model) {
			return func(m *Model) {
				m.att.(*mla).ix.norm = func(x, w, b []float32) {
					kernel.RMSNormRows(x, append([]float32(nil), x...), w, indexEps)
					kernel.Add(x, b)
				}
			}
		},
		"k_norm without its offset": func(w *memory) func(m *Model) {
			each(w, c, glm.IndexerKNorm, func(t glm.Tensor, x []float32) {
				if t.Param == "bias" {
					clear(x)
				}
			})
			return nil
		},
		"MLA pairs half-split": func(*memory) func(m *Model) {
			return func(m *Model) { m.att.(*mla).turn = pairing(false) }
		},
		"kv_b all keys, then all values": func(w *memory) func(m *Model) {
			reorder(w, c, glm.AttnKVB, c.KVLoraRank, blocks(c.Heads, c.QKNopeHeadDim, c.VHeadDim))
			return nil
		},
		"q_b rope before nope": func(w *memory) func(m *Model) {
			var order []int
			for h := range c.Heads {
				d := c.QKHeadDim()
				for i := range d {
					order = append(order, h*d+(i+c.QKNopeHeadDim)%d)
				}
			}
			reorder(w, c, glm.AttnQB, c.QLoraRank, order)
			return nil
		},
		"weights_proj negated": func(w *memory) func(m *Model) {
			each(w, c, glm.IndexerProj, func(_ glm.Tensor, x []float32) {
				for i := range x {
					x[i] = -x[i]
				}
			})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, w := quantized(t, dir, keepAll, numeric.Compat)
			edit := mutate(w)
			e := eval(cfg, w, edit)
			other := 0
			for l, sets := range e.Keys {
				for i := range sets {
					if fmt.Sprint(sets[i]) != fmt.Sprint(sound.Keys[l][i]) {
						other++
					}
				}
			}
			d := compare(t, name, sound.Logits, e.Logits)
			t.Logf("logits: max |Δ| = %.2g σ; %d of %d rows attend to other tokens", d, other, 3*len(ids))
			assert.Greater(t, d, 100*tolerance)
			assert.Greater(t, other, len(ids)/10)
		})
	}
}

// each edits the tensors of a role.
func each(w *memory, cfg *glm.Config, role glm.Role, edit func(t glm.Tensor, x []float32)) {
	for _, t := range cfg.Table() {
		if t.Role != role {
			continue
		}
		x := make([]float32, t.Elements())
		numeric.DecodeBF16(x, w.data[t.Name])
		edit(t, x)
		w.add(t.Name, safetensors.BF16, numeric.AppendBF16(nil, x), t.Shape...)
	}
}

// reorder makes row i of a role's matrices what row order[i] was.
func reorder(w *memory, cfg *glm.Config, role glm.Role, cols int, order []int) {
	each(w, cfg, role, func(_ glm.Tensor, x []float32) {
		old := append([]float32(nil), x...)
		for i, r := range order {
			copy(x[i*cols:][:cols], old[r*cols:])
		}
	})
}

// blocks is the order that puts the first a rows of every head before all the
// other rows.
func blocks(heads, a, b int) (order []int) {
	for h := range heads {
		for i := range a {
			order = append(order, h*(a+b)+i)
		}
	}
	for h := range heads {
		for i := range b {
			order = append(order, h*(a+b)+a+i)
		}
	}
	return order
}
