package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func init() { mutations = append(append(mutations, zeroMutations...), layerMutations...) }

func zeroed(from, to float64) func(x tensor) []tensor {
	return func(x tensor) []tensor {
		a, b := int(from*float64(len(x.data))), int(to*float64(len(x.data)))
		clear(x.data[a:b])
		return []tensor{x}
	}
}

var zeroMutations = []mutation{
	{"a weight of zeros", plain5, tensors(one(named("model.layers.1.self_attn.o_proj.weight"), zeroed(0, 1))), "weight-zero", "o_proj", true, silentAll},
	{"codes of zeros beside sound scales", int8CT, tensors(one(named("model.layers.1.self_attn.o_proj.weight"), zeroed(0, 1))), "weight-zero", "o_proj", true, nil},
	{"a norm of zeros", plain5, tensors(one(named("model.norm.weight"), zeroed(0, 1))), "weight-zero", "model.norm", true, nil},
	{"a hole in a weight", plain5, tensors(one(named("model.layers.1.mlp.experts.3.up_proj.weight"), zeroed(0.3, 0.8))), "zero-region", "experts.3", true, silentAll},
	{"the last third of the head", plain5, tensors(one(named("lm_head.weight"), zeroed(0.66, 1))), "zero-region", "lm_head", true, nil},
	{"a zero row of the MTP embedding", "nano-glm4moe", tensors(one(named("model.layers.3.embed_tokens.weight"), func(x tensor) []tensor {
		clear(x.data[256:512])
		return []tensor{x}
	})), "mtp-copy-stale", "embed_tokens", true, nil},
	{"a norm of one value", plain5, tensors(one(named("model.norm.weight"), func(x tensor) []tensor {
		for i := 2; i < len(x.data); i++ {
			x.data[i] = x.data[i%2]
		}
		return []tensor{x}
	})), "norm-constant", "model.norm", false, nil},
}

// valued gives every value of a BF16 tensor from share from to share to another.
func valued(v uint16, from, to float64) func(x tensor) []tensor {
	return func(x tensor) []tensor {
		for i := int(from*float64(len(x.data))) &^ 1; i < int(to*float64(len(x.data))); i += 2 {
			x.data[i], x.data[i+1] = byte(v), byte(v>>8)
		}
		return []tensor{x}
	}
}

func biasesOf(layer string) func(string) bool {
	return func(n string) bool { return strings.Contains(n, layer) && strings.HasSuffix(n, "_proj.bias") }
}

var layerMutations = []mutation{
	{"biases of one layer zero", "nano-glm4moe", tensors(one(biasesOf("layers.1."), zeroed(0, 1))), "layer-unlike", "layers.1.self_attn.k_proj.bias", true, nil},
	{"a bias of the first layer zero in a result", int8CT, tensors(one(named("model.layers.0.self_attn.v_proj.bias"), zeroed(0, 1))), "layer-unlike", "layers.0.self_attn.v_proj.bias", true, nil},
	{"half of a bias zero", "nano-glm4moe", tensors(one(named("model.layers.2.self_attn.q_proj.bias"), zeroed(0.4, 0.9))), "layer-unlike", "layers.2.self_attn.q_proj.bias", true, nil},
	{"a bias of one value", "nano-glm4moe", tensors(one(named("model.layers.1.self_attn.q_proj.bias"), valued(0x3f80, 0, 1))), "layer-unlike", "layers.1.self_attn.q_proj.bias", true, nil},
	{"a bias of NaN", "nano-glm4moe", tensors(one(named("model.layers.1.self_attn.q_proj.bias"), valued(0x7fc0, 0.5, 0.6))), "weight-nonfinite", "layers.1.self_attn.q_proj.bias", true, nil},
	{"a norm of one layer untrained", plain5, tensors(one(named("model.layers.1.input_layernorm.weight"), valued(0x3f80, 0, 1))), "layer-unlike", "layers.1.input_layernorm", true, nil},
	{"the indexer's norm of one layer", plain5, tensors(one(named("model.layers.1.self_attn.indexer.k_norm.bias"), zeroed(0, 1))), "layer-unlike", "layers.1.self_attn.indexer.k_norm.bias", true, nil},
	{"a router bias of one layer zero", "nano-glm4moe", tensors(one(named("model.layers.1.mlp.gate.e_score_correction_bias"), zeroed(0, 1))), "router-bias-zero", "layers.1.mlp.gate", true, nil},
	{"weights_proj of one value", plain5, tensors(one(named("model.layers.1.self_attn.indexer.weights_proj.weight"), valued(0x3d00, 0, 1))), "weight-constant", "weights_proj", true, nil},
}

// What is rightly zero is no finding: biases, the padded rows of a vocabulary.
func TestRightlyZero(t *testing.T) {
	for name, fn := range map[string]func(tensor) []tensor{
		"padded vocabulary":            one(func(n string) bool { return strings.Contains(n, "embed_tokens") || strings.Contains(n, "head.weight") }, zeroed(0.94, 1)),
		"biases":                       one(func(n string) bool { return strings.HasSuffix(n, ".bias") }, zeroed(0, 1)),
		"biases of k":                  one(func(n string) bool { return strings.HasSuffix(n, "k_proj.bias") }, zeroed(0, 1)),
		"biases of all layers but one": one(func(n string) bool { return strings.HasSuffix(n, "_proj.bias") && !strings.Contains(n, "layers.0.") }, zeroed(0, 1)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, "nano-glm4moe")
			retensor(t, dir, fn)
			r := examine(t, dir, Options{Weights: true})
			assert.True(t, r.OK, r.Text())
			assert.False(t, r.Has("zero-region") || r.Has("weight-zero") || r.Has("layer-unlike"), r.Text())
		})
	}
}
