package spec

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// tensors is a checkpoint in memory.
type tensors struct {
	infos []safetensors.Info
	data  map[string][]byte
}

func (m *tensors) Tensors() []safetensors.Info { return m.infos }

func (m *tensors) Info(name string) (safetensors.Info, bool) {
	i := slices.IndexFunc(m.infos, func(x safetensors.Info) bool { return x.Name == name })
	if i < 0 {
		return safetensors.Info{}, false
	}
	return m.infos[i], true
}

func (m *tensors) ReadAt(t safetensors.Info, off int64, p []byte) error {
	copy(p, m.data[t.Name][off:])
	return nil
}

// tinyModel is a glm4_moe of a few dozen dimensions. Its MTP layer imitates the
// model so that drafts are accepted now and then: the vocabulary is small, and
// eh_proj passes the state on.
func tinyModel(t testing.TB, seed uint64) *runtime.Model { return tinyOf(t, "glm4_moe", seed) }

// latent makes a config one of a family with latent attention; the indexer of
// glm_moe_dsa chooses among few keys, by every spelling of its schedule.
func latent(c map[string]any, family string, r *rand.Rand) {
	heads, rope := 1+r.IntN(3), 2*(1+r.IntN(3))
	maps.Copy(c, map[string]any{"model_type": family, "architectures": []string{"Glm4MoeLiteForCausalLM"}, "num_attention_heads": heads, "num_key_value_heads": heads,
		"q_lora_rank": 4 + r.IntN(8), "kv_lora_rank": 4 + r.IntN(8), "qk_nope_head_dim": 2 + r.IntN(6), "qk_rope_head_dim": rope, "head_dim": rope, "v_head_dim": 2 + r.IntN(6),
		"attention_bias": false, "rope_interleave": true, "partial_rotary_factor": 1.0})
	if family != "glm_moe_dsa" {
		return
	}
	maps.Copy(c, map[string]any{"architectures": []string{"GlmMoeDsaForCausalLM"}, "index_n_heads": 1 + r.IntN(3), "index_head_dim": rope + r.IntN(4),
		"index_topk": 1 + r.IntN(8), "indexer_rope_interleave": r.IntN(2) == 0, "index_share_for_mtp_iteration": r.IntN(2) == 0})
	layers := c["num_hidden_layers"].(int)
	switch r.IntN(4) {
	case 0:
		c["indexer_types"] = []string{"full", "shared"}[:layers]
	case 1:
		c["index_topk_pattern"] = "FS"[:layers]
	case 2:
		c["index_topk_freq"], c["index_skip_topk_offset"] = 1+r.IntN(2), 1+r.IntN(2)
	}
}

func tinyOf(t testing.TB, family string, seed uint64) *runtime.Model {
	r := rand.New(rand.NewPCG(seed, 3))
	c := map[string]any{
		"model_type": "glm4_moe", "architectures": []string{"Glm4MoeForCausalLM"}, "hidden_act": "silu",
		"hidden_size": 16, "num_hidden_layers": 1 + r.IntN(2), "num_attention_heads": 2, "num_key_value_heads": 1 + r.IntN(2), "head_dim": 8,
		"partial_rotary_factor": 0.5, "rope_theta": 10000, "rms_norm_eps": 1e-5, "attention_bias": r.IntN(2) == 0, "use_qk_norm": r.IntN(2) == 0,
		"intermediate_size": 16, "moe_intermediate_size": 8, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 1 + r.IntN(2),
		"first_k_dense_replace": r.IntN(2), "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.5,
		"num_nextn_predict_layers": 1, "vocab_size": 6 + r.IntN(12), "max_position_embeddings": 512, "eos_token_id": []int{1}, "tie_word_embeddings": false,
	}
	if family != "glm4_moe" {
		latent(c, family, r)
	}
	raw, err := json.Marshal(c)
	require.NoError(t, err)
	cfg, err := glm.ParseConfig(raw)
	require.NoError(t, err)
	m := &tensors{data: map[string][]byte{}}
	for _, x := range cfg.Table() {
		if x.Optional {
			continue
		}
		v := make([]float32, x.Elements())
		for i := range v {
			switch {
			case x.Role == glm.RouterBias:
				v[i] = 7 + float32(r.NormFloat64()*0.1)
			case x.Param == "bias":
				v[i] = float32(r.NormFloat64() * 0.1)
			case len(x.Shape) == 1:
				v[i] = 1
			default:
				v[i] = float32(r.NormFloat64() * 0.3)
			}
		}
		d, data := x.DType, numeric.AppendF32(nil, v)
		if d != safetensors.F32 {
			d, data = safetensors.BF16, numeric.AppendBF16(nil, v)
		}
		m.infos = append(m.infos, safetensors.Info{Name: x.Name, DType: d, Shape: x.Shape, File: "memory", Size: int64(len(data))})
		m.data[x.Name] = data
	}
	p, err := runtime.NewResident(cfg, m)
	require.NoError(t, err)
	model, err := runtime.New(cfg, p, runtime.Options{Threads: 1})
	require.NoError(t, err)
	return model
}

// TestSpeculativeIsPlain: 200 models of glm4_moe and 100 of each family with
// latent attention, 1 to 4 drafts (and 5 for some), greedy and sampled, with
// stop tokens and cuts at every place.
func TestSpeculativeIsPlain(t *testing.T) {
	for family, models := range map[string]uint64{"glm4_moe": 200, "glm_moe_dsa": 100, "glm4_moe_lite": 100} {
		t.Run(family, func(t *testing.T) { speculativeIsPlain(t, family, models) })
	}
}

func speculativeIsPlain(t *testing.T, family string, models uint64) {
	var accepted, insideStop, insideCut int
	for seed := range models {
		m := tinyOf(t, family, seed)
		r := rand.New(rand.NewPCG(seed, 4))
		vocab := m.Config().VocabSize
		prompt := make([]int, 1+r.IntN(6))
		for i := range prompt {
			prompt[i] = r.IntN(vocab)
		}
		o := Options{MaxTokens: 8 + r.IntN(12), Seed: seed, PreNorm: r.IntN(2) == 0}
		if seed%2 == 1 {
			o.Temperature = 0.5
		}
		if seed%4 == 3 {
			o.TopK, o.TopP = 4, 0.9
		}
		free, err := Generate(context.Background(), m, prompt, o)
		require.NoError(t, err)
		require.Equal(t, Length, free.Finish)
		require.Len(t, free.Tokens, o.MaxTokens)
		stop := free.Tokens[r.IntN(len(free.Tokens))]
		for k := 1; k <= 4+int(seed%2); k++ {
			for _, stops := range [][]int{nil, {stop}, {vocab - 1, stop}} {
				o := o
				o.Stop, o.MaxTokens = stops, 1+r.IntN(o.MaxTokens)
				plain, err := Generate(context.Background(), m, prompt, o)
				require.NoError(t, err)
				o.Drafts = k
				var streamed []int
				o.Token = func(id int) { streamed = append(streamed, id) }
				spec, err := Generate(context.Background(), m, prompt, o)
				require.NoError(t, err)
				require.Equal(t, plain.Tokens, spec.Tokens, "seed %d, %d drafts, stop %v", seed, k, stops)
				require.Equal(t, plain.Finish, spec.Finish)
				require.Equal(t, spec.Tokens, streamed)
				n := spec.Counters
				require.Equal(t, n.Passes*k, n.DraftTokens)
				accepted += n.Accepted
				// A text that is shorter than its passes made it ended inside a run.
				if 1+n.Passes+n.Accepted > len(spec.Tokens) {
					if spec.Finish == Stop {
						insideStop++
					} else {
						insideCut++
					}
				}
			}
		}
	}
	t.Logf("%d drafts accepted, %d stops and %d cuts inside an accepted run", accepted, insideStop, insideCut)
	assert.Greater(t, accepted, int(2*models))
	assert.Greater(t, insideStop, int(models/10))
	assert.Greater(t, insideCut, int(models/10))
}

// TestDistribution: what is sampled with drafts is distributed exactly as the
// model says: chi-squared over all texts of two tokens after the first, for
// fixed seeds, at a level of 1e-4.
func TestDistribution(t *testing.T) {
	ctx := context.Background()
	m := tinyModel(t, 7)
	const temperature, n = 0.8, 6000
	prompt, v, h := []int{1, 4, 2}, m.Config().VocabSize, m.Config().HiddenSize
	row := func(ids []int) []float64 {
		x, err := m.NewSession().Forward(ctx, ids)
		require.NoError(t, err)
		z, err := m.Logits(ctx, x[len(x)-h:])
		require.NoError(t, err)
		p, sum := make([]float64, v), 0.0
		for i := range z {
			p[i] = math.Exp(float64(z[i]) / temperature)
			sum += p[i]
		}
		for i := range p {
			p[i] /= sum
		}
		return p
	}
	want := map[[3]int]float64{}
	for a, pa := range row(prompt) {
		for b, pb := range row(append(slices.Clone(prompt), a)) {
			for c, pc := range row(append(slices.Clone(prompt), a, b)) {
				want[[3]int{a, b, c}] = pa * pb * pc
			}
		}
	}
	got, accepted := map[[3]int]int{}, 0
	for seed := range uint64(n) {
		out, err := Generate(ctx, m, prompt, Options{MaxTokens: 3, Temperature: temperature, Seed: seed, Drafts: 2})
		require.NoError(t, err)
		got[[3]int(out.Tokens)]++
		accepted += out.Counters.Accepted
	}
	assert.Greater(t, accepted, n/20)
	var chi, rest, restWant float64
	cells := -1
	for k, p := range want {
		if p*n < 5 {
			rest, restWant = rest+float64(got[k]), restWant+p*n
			continue
		}
		d := float64(got[k]) - p*n
		chi += d * d / (p * n)
		cells++
	}
	if restWant > 0 {
		chi += (rest - restWant) * (rest - restWant) / restWant
		cells++
	}
	// Wilson-Hilferty: the cube root is normal.
	f := float64(cells)
	z := (math.Cbrt(chi/f) - (1 - 2/(9*f))) / math.Sqrt(2/(9*f))
	t.Logf("χ² = %.1f with %d degrees of freedom (z = %.2f), %d of %d texts accepted drafts", chi, cells, z, accepted, n)
	assert.Less(t, math.Abs(z), 3.9)
}
