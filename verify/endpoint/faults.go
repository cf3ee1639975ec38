package endpoint

import (
	"cmp"
	"context"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/safetensors"
)

// fault is what engines have been seen to do instead of computing what a folder
// says (docs/facts/verification.md 1.9): tensors read as zeros, tensors not
// found, another config.
type fault struct {
	name        string
	advice      string
	applies     func(c *glm.Config) bool
	config      func(c *glm.Config)
	zero        func() *regexp.Regexp // tensors that are read as zeros; nil: none
	hide        func() *regexp.Regexp // tensors that are not there; nil: none
	weightsOnly bool
}

// faults are tried in this order.
var faults = []fault{
	{name: "the router bias (e_score_correction_bias) is lost", advice: "look for e_score_correction_bias in the engine's log of loaded weights; glmconv check --engine says what the engine skips",
		zero: lazy.Regexp(`e_score_correction_bias$`), applies: moe},
	{name: "the shared experts are left out", advice: "SGLang: --disable-shared-experts-fusion; vLLM: enable_weights_track shows what was not loaded",
		zero: lazy.Regexp(`\.shared_experts\.down_proj\.`), applies: func(c *glm.Config) bool { return c.SharedExperts > 0 }},
	{name: "the routed experts are not scaled (routed_scaling_factor)", advice: "is routed_scaling_factor in the config.json that the engine reads?",
		config: func(c *glm.Config) { c.RoutedScaling = 1 }, applies: func(c *glm.Config) bool { return moe(c) && c.RoutedScaling != 1 }},
	{name: "the weights of the chosen experts are not normalised (norm_topk_prob)", advice: "is norm_topk_prob in the config.json that the engine reads?",
		config: func(c *glm.Config) { c.NormTopK = !c.NormTopK }, applies: moe},
	{name: "the routed experts are left out", advice: "the engine has no kernel for the scheme of the experts, or skipped their names: glmconv check --engine",
		zero: lazy.Regexp(`\.mlp\.experts\.(\d+\.)?down_proj`), applies: moe},
	{name: "rotary positions cover all of a head (partial_rotary_factor is lost)", advice: "is partial_rotary_factor in the config.json that the engine reads?",
		config: func(c *glm.Config) { c.RopeWidth = c.HeadDim }, applies: func(c *glm.Config) bool { return !c.LatentAttention() && c.RopeWidth != c.HeadDim && c.Vision == nil }},
	{name: "rotary pairs are taken in the other order (interleaved or halves)", advice: "an engine older than the family does this",
		config: func(c *glm.Config) { c.RopeInterleaved = !c.RopeInterleaved }, applies: func(c *glm.Config) bool { return true }},
	{name: "the rotary base is 10000 (rope_theta is lost)", advice: "is rope_theta in the config.json that the engine reads? transformers 5 writes it into rope_parameters",
		config: func(c *glm.Config) { c.RopeTheta = 10000 }, applies: func(c *glm.Config) bool { return c.RopeTheta != 10000 }},
	{name: "the biases of q, k and v are lost", advice: "is attention_bias in the config.json that the engine reads?",
		zero: lazy.Regexp(`\.self_attn\.[qkv]_proj\.bias$`), applies: func(c *glm.Config) bool { return c.AttentionBias }},
	{name: "queries and keys are not normalised (use_qk_norm is lost)", advice: "is use_qk_norm in the config.json that the engine reads?",
		config: func(c *glm.Config) { c.UseQKNorm = false }, applies: func(c *glm.Config) bool { return c.UseQKNorm }},
	{name: "the embedding is used in place of lm_head", advice: "is tie_word_embeddings false in the config.json that the engine reads? (vllm#34385)",
		config: func(c *glm.Config) { c.TieEmbeddings = true }, hide: lazy.Regexp(`^lm_head\.|\.lm_head\.`), applies: func(c *glm.Config) bool { return !c.TieEmbeddings }},
	{name: "attention is not sparse: the indexer is ignored", advice: "the engine has no back end for sparse attention here; within index_topk tokens this changes nothing",
		config: func(c *glm.Config) { c.IndexTopK = 1 << 30 }, applies: func(c *glm.Config) bool { return c.SparseAttention() }},
	{name: "pairs of the indexer are taken in the other order", advice: "the engine is older than indexer_rope_interleave",
		config: func(c *glm.Config) { c.IndexerInterleaved = !c.IndexerInterleaved }, applies: func(c *glm.Config) bool { return c.SparseAttention() }},
	{name: "activations are not quantized (weight-only kernels)", advice: "no fault of numbers: the device has no kernel for the scheme's activations, or the engine chose weight-only ones",
		weightsOnly: true, applies: func(c *glm.Config) bool { return true }},
}

func moe(c *glm.Config) bool { return c.Experts > 0 }

// altered is a checkpoint as an engine with a fault reads it.
type altered struct {
	*safetensors.Checkpoint
	f *fault
}

func (a *altered) hidden(name string) bool { return a.f.hide != nil && a.f.hide().MatchString(name) }

// Info is that of the checkpoint but for what is hidden.
func (a *altered) Info(name string) (safetensors.Info, bool) {
	if a.hidden(name) {
		return safetensors.Info{}, false
	}
	return a.Checkpoint.Info(name)
}

// Tensors are those that are not hidden.
func (a *altered) Tensors() []safetensors.Info {
	list := a.Checkpoint.Tensors()
	if a.f.hide == nil {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(t safetensors.Info) bool { return a.hidden(t.Name) })
}

// ReadAt reads zeros where the fault says so.
func (a *altered) ReadAt(t safetensors.Info, off int64, p []byte) error {
	if a.f.zero != nil && a.f.zero().MatchString(t.Name) {
		clear(p)
		return nil
	}
	return a.Checkpoint.ReadAt(t, off, p)
}

// maxTried bounds the tokens that faults are tried on.
const maxTried = 512

// try computes the folder with every fault that it can have and says how far the
// server is from each, nearest first. plain is the distance without a fault.
func (v *verifying) try(ctx context.Context, server [][]said) (signs []Sign, advice map[string]string, plain float64, err error) {
	seqs, n := v.seqs, 0
	for i, s := range seqs {
		if n += len(s); n >= maxTried {
			seqs = seqs[:i+1]
			break
		}
	}
	base := v.comparing()
	f, err := v.served.compare(ctx, base, seqs, v.states, server)
	if err != nil {
		return nil, nil, 0, err
	}
	advice = map[string]string{}
	cfg := v.served.Config()
	for i := range faults {
		x := &faults[i]
		if !x.applies(cfg) || x.weightsOnly && !v.quantized {
			continue
		}
		v.o.progress(i, len(faults), "causes")
		d, err := v.distance(ctx, x, seqs, server)
		if ctx.Err() != nil {
			return nil, nil, 0, ctx.Err()
		}
		if err != nil {
			continue // it cannot be run that way, so no engine runs it
		}
		signs = append(signs, Sign{x.name, d})
		advice[x.name] = x.advice
	}
	slices.SortStableFunc(signs, nearer)
	return signs, advice, f.KL, nil
}

// nearer orders by distance; one that is no number is the farthest.
func nearer(a, b Sign) int {
	far := func(s Sign) float64 {
		if math.IsNaN(s.KL) {
			return math.Inf(1)
		}
		return s.KL
	}
	return cmp.Compare(far(a), far(b))
}

// distance is the mean KL between the folder with a fault and the server.
func (v *verifying) distance(ctx context.Context, x *fault, seqs [][]int, server [][]said) (float64, error) {
	m, err := openModel(v.dir, v.o.Verify.Workers, v.o.Verify.MaxMemory, x)
	if err != nil {
		return 0, err
	}
	defer m.close()
	states, err := m.states(ctx, seqs, false)
	if err != nil {
		return 0, err
	}
	f, err := m.compare(ctx, v.comparing(), seqs, states, server)
	return f.KL, err
}

// named is the fault that a server has: the nearest, where it accounts for nearly
// all of the distance and no other one does as well.
func named(signs []Sign, plain, allowed float64) string {
	if len(signs) == 0 || !(signs[0].KL <= max(allowed, plain/20)) || signs[0].KL > plain/4 {
		return ""
	}
	var same []string
	for _, s := range signs {
		if s.KL <= 2*signs[0].KL+1e-6 {
			same = append(same, s.Name)
		}
	}
	return strings.Join(same, ", or ")
}
