package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// plain is glm_moe_dsa and glm4_moe_lite in float64, a token at a time, written
// from docs/facts/families.md 2.3 and 4 with names and formulas alone: nothing
// of it comes from the runtime.
type plain struct {
	c    *glm.Config
	t    *memory
	keys map[int][][]int32 // by layer
	// gap is the smallest difference, other than zero, between what was chosen
	// and what was not: below rounding the choice is arbitrary.
	gap float64
}

type vec = []float64

func (p *plain) mat(name string) (w vec, cols int) {
	info := p.t.infos[name]
	x := make([]float32, info.Elements())
	if info.DType == safetensors.F32 {
		numeric.DecodeF32(x, p.t.data[name])
	} else {
		numeric.DecodeBF16(x, p.t.data[name])
	}
	w = make(vec, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	if len(x) == 0 {
		panic(name)
	}
	return w, int(info.Shape[len(info.Shape)-1])
}

func (p *plain) mul(name string, x vec) vec {
	w, k := p.mat(name)
	y := make(vec, len(w)/k)
	for i := range y {
		y[i] = inner(w[i*k:][:k], x)
	}
	return y
}

func inner(a, b vec) (s float64) {
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

func (p *plain) rms(name string, x vec) vec {
	w, _ := p.mat(name)
	s := 1 / math.Sqrt(inner(x, x)/float64(len(x))+p.c.RMSNormEps)
	y := make(vec, len(x))
	for i := range x {
		y[i] = x[i] * s * w[i]
	}
	return y
}

// turned rotates pairs of the first n dimensions.
func (p *plain) turned(x vec, n, pos int, interleaved bool) vec {
	y := append(vec(nil), x...)
	for j := range n / 2 {
		a := float64(pos) * math.Pow(p.c.RopeTheta, -2*float64(j)/float64(n))
		r, i := j, j+n/2
		if interleaved {
			r, i = 2*j, 2*j+1
		}
		y[r], y[i] = x[r]*math.Cos(a)-x[i]*math.Sin(a), x[r]*math.Sin(a)+x[i]*math.Cos(a)
	}
	return y
}

func (p *plain) swiglu(prefix string, x vec) vec {
	g, u := p.mul(prefix+"gate_proj.weight", x), p.mul(prefix+"up_proj.weight", x)
	for i := range g {
		g[i] = g[i] / (1 + math.Exp(-g[i])) * u[i]
	}
	return p.mul(prefix+"down_proj.weight", g)
}

// best returns the k largest, the lower index first among equals.
func (p *plain) best(s vec, k int) []int {
	at := make([]int, len(s))
	for i := range at {
		at[i] = i
	}
	sort.SliceStable(at, func(i, j int) bool { return s[at[i]] > s[at[j]] })
	if k < len(s) {
		if d := s[at[k-1]] - s[at[k]]; d != 0 {
			p.gap = min(p.gap, d)
		}
		at = at[:k]
	}
	return at
}

func (p *plain) moe(prefix string, x vec) vec {
	y := p.swiglu(prefix+"shared_experts.", x)
	s := p.mul(prefix+"gate.weight", x)
	b, _ := p.mat(prefix + "gate.e_score_correction_bias")
	c := make(vec, len(s))
	for i := range s {
		s[i] = 1 / (1 + math.Exp(-s[i]))
		c[i] = s[i] + b[i]
	}
	chosen, sum := p.best(c, p.c.ExpertsPerToken), 0.0
	for _, e := range chosen {
		sum += s[e]
	}
	for _, e := range chosen {
		for i, v := range p.swiglu(fmt.Sprintf("%sexperts.%d.", prefix, e), x) {
			y[i] += s[e] / sum * p.c.RoutedScaling * v
		}
	}
	return y
}

// layer runs a decoder layer on x [T][H] in place.
func (p *plain) layer(l int, x []vec, full bool, keys [][]int32) [][]int32 {
	c, a := p.c, fmt.Sprintf("model.layers.%d.self_attn.", l)
	nope, rot, vd, d := c.QKNopeHeadDim, c.QKRopeHeadDim, c.VHeadDim, c.QKNopeHeadDim+c.QKRopeHeadDim
	var kvs, pes, iks []vec
	if full {
		keys = nil
	}
	for t := range x {
		in := p.rms(fmt.Sprintf("model.layers.%d.input_layernorm.weight", l), x[t])
		cq := p.rms(a+"q_a_layernorm.weight", p.mul(a+"q_a_proj.weight", in))
		q := p.mul(a+"q_b_proj.weight", cq)
		u := p.mul(a+"kv_a_proj_with_mqa.weight", in)
		kvs = append(kvs, p.mul(a+"kv_b_proj.weight", p.rms(a+"kv_a_layernorm.weight", u[:c.KVLoraRank])))
		pes = append(pes, p.turned(u[c.KVLoraRank:], rot, t, c.RopeInterleaved))
		if full {
			iks = append(iks, p.indexKey(a+"indexer.", in, t))
			keys = append(keys, p.choose(a+"indexer.", in, cq, iks))
		}
		seen := make([]int, t+1)
		for i := range seen {
			seen[i] = i
		}
		if keys != nil {
			seen = seen[:0]
			for _, k := range keys[t] {
				seen = append(seen, int(k))
			}
		}
		var o vec
		for h := range c.Heads {
			qh := q[h*d:][:d]
			qr := p.turned(qh[nope:], rot, t, c.RopeInterleaved)
			s, top, sum := make(vec, len(seen)), math.Inf(-1), 0.0
			for i, k := range seen {
				s[i] = (inner(qh[:nope], kvs[k][h*(nope+vd):][:nope]) + inner(qr, pes[k])) / math.Sqrt(float64(d))
				top = max(top, s[i])
			}
			for i := range s {
				s[i] = math.Exp(s[i] - top)
				sum += s[i]
			}
			oh := make(vec, vd)
			for i, k := range seen {
				for j, v := range kvs[k][h*(nope+vd)+nope:][:vd] {
					oh[j] += s[i] / sum * v
				}
			}
			o = append(o, oh...)
		}
		for i, v := range p.mul(a+"o_proj.weight", o) {
			x[t][i] += v
		}
		in = p.rms(fmt.Sprintf("model.layers.%d.post_attention_layernorm.weight", l), x[t])
		mlp, y := fmt.Sprintf("model.layers.%d.mlp.", l), vec(nil)
		if l < c.Layers && c.Dense[l] {
			y = p.swiglu(mlp, in)
		} else {
			y = p.moe(mlp, in)
		}
		for i, v := range y {
			x[t][i] += v
		}
	}
	return keys
}

func (p *plain) indexKey(prefix string, in vec, t int) vec {
	k := p.mul(prefix+"wk.weight", in)
	w, _ := p.mat(prefix + "k_norm.weight")
	b, _ := p.mat(prefix + "k_norm.bias")
	var mean, sq float64
	for _, v := range k {
		mean += v / float64(len(k))
	}
	for _, v := range k {
		sq += (v - mean) * (v - mean) / float64(len(k))
	}
	for i := range k {
		k[i] = (k[i]-mean)/math.Sqrt(sq+1e-6)*w[i] + b[i]
	}
	return p.turned(k, p.c.QKRopeHeadDim, t, p.c.IndexerInterleaved)
}

func (p *plain) choose(prefix string, in, cq vec, iks []vec) []int32 {
	q, w, d := p.mul(prefix+"wq_b.weight", cq), p.mul(prefix+"weights_proj.weight", in), p.c.IndexHeadDim
	s := make(vec, len(iks))
	for h := range p.c.IndexHeads {
		qh := p.turned(q[h*d:][:d], p.c.QKRopeHeadDim, len(iks)-1, p.c.IndexerInterleaved)
		for t, k := range iks {
			s[t] += w[h] / math.Sqrt(float64(p.c.IndexHeads)) * max(0, inner(qh, k)/math.Sqrt(float64(d)))
		}
	}
	at := p.best(s, p.c.IndexTopK)
	sort.Ints(at)
	out := make([]int32, len(at))
	for i, v := range at {
		out[i] = int32(v)
	}
	return out
}

// run returns the logits of every position, and of the MTP layer's first step.
func (p *plain) run(ids []int) (logits, draft vec) {
	table, h := p.mat("model.embed_tokens.weight")
	row := func(id int) vec { return append(vec(nil), table[id*h:][:h]...) }
	var x []vec
	for _, id := range ids {
		x = append(x, row(id))
	}
	var keys [][]int32
	for l := range p.c.Layers {
		full := p.c.IndexerFull != nil && p.c.IndexerFull[l]
		keys = p.layer(l, x, full, keys)
		if full {
			p.keys[l] = keys
		}
	}
	var z []vec
	for t := range x {
		x[t] = p.rms("model.norm.weight", x[t])
		logits = append(logits, p.mul("lm_head.weight", x[t])...)
	}
	n := fmt.Sprintf("model.layers.%d.", p.c.Layers)
	for t := range len(ids) - 1 {
		e := p.rms(n+"enorm.weight", row(ids[t+1]))
		z = append(z, p.mul(n+"eh_proj.weight", append(e, p.rms(n+"hnorm.weight", x[t])...)))
	}
	p.keys[p.c.Layers] = p.layer(p.c.Layers, z, p.c.IndexerFull != nil, nil)
	for t := range z {
		draft = append(draft, p.mul("lm_head.weight", p.rms(n+"shared_head.norm.weight", z[t]))...)
	}
	return logits, draft
}

// mlaConfig draws a config with odd dimensions.
func mlaConfig(t *rapid.T, family string) *glm.Config {
	n := func(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, name) }
	rot := 2 * n("rope/2", 1, 5)
	layers, experts := n("layers", 1, 4), n("experts", 2, 5)
	heads := n("heads", 1, 3)
	c := map[string]any{
		"model_type": family, "hidden_act": "silu", "hidden_size": n("hidden", 5, 33), "num_hidden_layers": layers,
		"num_attention_heads": heads, "num_key_value_heads": heads, "q_lora_rank": n("q_lora", 1, 19), "kv_lora_rank": n("kv_lora", 1, 19),
		"qk_nope_head_dim": n("nope", 1, 13), "qk_rope_head_dim": rot, "v_head_dim": n("v", 1, 13), "head_dim": rot,
		"intermediate_size": n("dense", 1, 30), "moe_intermediate_size": n("moe", 1, 20), "n_routed_experts": experts, "n_shared_experts": 1,
		"num_experts_per_tok": n("top", 1, experts), "first_k_dense_replace": n("first", 0, layers), "n_group": 1, "topk_group": 1,
		"norm_topk_prob": true, "routed_scaling_factor": 1.8, "num_nextn_predict_layers": 1, "vocab_size": n("vocab", 3, 40),
		"max_position_embeddings": 512, "eos_token_id": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000, "attention_bias": false,
		"tie_word_embeddings": false, "rope_interleave": rapid.Bool().Draw(t, "interleaved"),
	}
	c["architectures"] = []string{"Glm4MoeLiteForCausalLM"}
	if family == "glm_moe_dsa" {
		c["architectures"] = []string{"GlmMoeDsaForCausalLM"}
		c["index_n_heads"], c["index_head_dim"], c["index_topk"] = n("ix heads", 1, 4), rot+n("ix nope", 0, 9), n("ix top", 1, 12)
		c["indexer_rope_interleave"] = rapid.Bool().Draw(t, "ix interleaved")
		switch n("schedule", 0, 3) { // the three spellings, and none
		case 1:
			types := []string{"full"}
			for range layers - 1 {
				types = append(types, rapid.SampledFrom([]string{"full", "shared"}).Draw(t, "type"))
			}
			c["indexer_types"] = types
		case 2:
			pattern := "F"
			for range layers - 1 {
				pattern += rapid.SampledFrom([]string{"F", "S"}).Draw(t, "letter")
			}
			c["index_topk_pattern"] = pattern
		case 3:
			c["index_topk_freq"], c["index_skip_topk_offset"] = n("freq", 1, 3), n("offset", 1, 3)
		}
	}
	raw, err := json.Marshal(c)
	require.NoError(t, err)
	cfg, err := glm.ParseConfig(raw)
	require.NoError(t, err)
	return cfg
}

func draw(t *rapid.T, vocab, lo, hi int) []int {
	return rapid.SliceOfN(rapid.IntRange(0, vocab-1), lo, hi).Draw(t, "ids")
}

func TestMLAReference(t *testing.T) {
	for _, family := range []string{"glm_moe_dsa", "glm4_moe_lite"} {
		t.Run(family, rapid.MakeCheck(func(t *rapid.T) {
			cfg := mlaConfig(t, family)
			w := random(cfg, rapid.Uint64().Draw(t, "seed"))
			ids := draw(t, cfg.VocabSize, 2, 24)
			p := &plain{c: cfg, t: w, keys: map[int][][]int32{}, gap: math.Inf(1)}
			logits, draft := p.run(ids)
			if p.gap < 1e-4 {
				t.Skip("a choice within rounding")
			}
			for _, expand := range []bool{false, true} {
				m := resident(t, cfg, w, Options{ExpandKV: expand, Chunk: rapid.IntRange(1, 30).Draw(t, "chunk")})
				out, err := m.Evaluate(context.Background(), [][]int{ids}, EvalOptions{Logits: true, Keys: true, MTP: 1})
				require.NoError(t, err)
				near(t, logits, out[0].Logits)
				near(t, draft, out[0].MTP[0])
				if family == "glm_moe_dsa" {
					out[0].Keys[cfg.Layers] = out[0].MTPKeys
					assert.Equal(t, p.keys, out[0].Keys)
				}
			}
		}))
	}
}

func near(t *rapid.T, want vec, got []float32) {
	require.Len(t, got, len(want))
	scale := math.Sqrt(inner(want, want) / float64(len(want)))
	for i := range want {
		require.InDelta(t, want[i], float64(got[i]), 1e-4*(scale+math.Abs(want[i])), "logit %d", i)
	}
}
