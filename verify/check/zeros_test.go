package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func init() { mutations = append(mutations, zeroMutations...) }

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

// What is rightly zero is no finding: biases, the padded rows of a vocabulary.
func TestRightlyZero(t *testing.T) {
	for name, fn := range map[string]func(tensor) []tensor{
		"padded vocabulary": one(func(n string) bool { return strings.Contains(n, "embed_tokens") || strings.Contains(n, "head.weight") }, zeroed(0.94, 1)),
		"biases":            one(func(n string) bool { return strings.HasSuffix(n, ".bias") }, zeroed(0, 1)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, "nano-glm4moe")
			retensor(t, dir, fn)
			r := examine(t, dir, Options{Weights: true})
			assert.True(t, r.OK, r.Text())
			assert.False(t, r.Has("zero-region") || r.Has("weight-zero"), r.Text())
		})
	}
}
