package check

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/glmconv/glmconv/safetensors"
)

func init() { mutations = append(mutations, sizeMutations...) }

// eachValue changes every value of a tensor of BF16, F16 or F32.
func eachValue(fn func(v float64) float64) func(x tensor) []tensor {
	return func(x tensor) []tensor {
		for i := 0; i+1 < len(x.data); i += 2 {
			switch x.DType {
			case safetensors.F32:
				if i%4 == 0 {
					v := math.Float32frombits(binary.LittleEndian.Uint32(x.data[i:]))
					binary.LittleEndian.PutUint32(x.data[i:], math.Float32bits(float32(fn(float64(v)))))
				}
			case safetensors.BF16:
				v := math.Float32frombits(uint32(binary.LittleEndian.Uint16(x.data[i:])) << 16)
				binary.LittleEndian.PutUint16(x.data[i:], uint16(math.Float32bits(float32(fn(float64(v))))>>16))
			}
		}
		return []tensor{x}
	}
}

func times(k float64) func(x tensor) []tensor {
	return eachValue(func(v float64) float64 { return v * k })
}

func inverse(x tensor) []tensor { return eachValue(func(v float64) float64 { return 1 / v })(x) }

func partly(parts ...string) func(string) bool {
	return func(n string) bool {
		for _, p := range parts {
			if !strings.Contains(n, p) {
				return false
			}
		}
		return true
	}
}

// firstRow repeats the first of a number of rows.
func firstRow(rows int) func(x tensor) []tensor {
	return func(x tensor) []tensor {
		n := len(x.data) / rows
		for i := n; i < len(x.data); i++ {
			x.data[i] = x.data[i-n]
		}
		return []tensor{x}
	}
}

const down3 = "model.layers.1.mlp.experts.3.down_proj.weight"

var sizeMutations = []mutation{
	{"reciprocals of FP8 scales", fp8CT, tensors(one(partly("layers.2.self_attn", "weight_scale"), inverse)), "weight-size", "layers.2.self_attn.q_proj.weight", true, silentAll},
	{"reciprocals of one FP8 scale", fp8CT, tensors(one(named("model.layers.1.self_attn.o_proj.weight_scale"), inverse)), "weight-size", "layers.1.self_attn.o_proj.weight", true, silentAll},
	{"reciprocals of all FP8 block scales", blockHF, tensors(one(partly("weight_scale_inv"), inverse)), "weight-size", "layers.0.mlp.down_proj.weight", true, nil},
	{"reciprocals of int8 scales", int8Asc, tensors(one(partly("layers.2.mlp.experts.3", "weight_scale"), inverse)), "weight-size", "layers.2.mlp.experts.3.gate_proj.weight", true, nil},
	{"a weight of a hundredth", "nano-glm4moe", tensors(one(named("model.layers.1.self_attn.o_proj.weight"), times(0.01))), "weight-size", "layers.1.self_attn.o_proj.weight", true, silentAll},
	{"a weight times a hundred", "nano-glm5", tensors(one(named("model.layers.1.self_attn.indexer.wk.weight"), times(100))), "weight-size", "indexer.wk", true, nil},
	{"an int4 scale times a hundred", int4Asc, tensors(one(named("model.layers.1.mlp.experts.3.down_proj.weight_scale"), times(100))), "weight-size", down3, true, nil},
	{"a packed scale times sixteen", packedCT, tensors(one(named("model.layers.1.mlp.experts.3.down_proj.weight_scale"), times(16))), "weight-size", "experts.3.down_proj.weight_packed", false, nil},
	{"an expert of a hundredth", "nano-glm4moe", tensors(one(named(down3), times(0.01))), "weight-size", down3, false, nil},
	{"a dense weight times a hundred", "nano-glm4moe", tensors(one(named("model.layers.0.mlp.down_proj.weight"), times(100))), "weight-size", "layers.0.mlp.down_proj", false, nil},
	{"a weight of the tower times a hundred", "nano-glm45v", tensors(one(named("model.visual.blocks.1.attn.qkv.weight"), times(100))), "weight-size", "visual.blocks.1.attn.qkv", false, nil},
	{"reciprocals of global scales", "nano-glm4moe nvfp4a16 compressed-tensors", tensors(one(partly("layers.2.", "weight_global_scale"), inverse)), "weight-size", "layers.2.mlp.experts", true, nil},
	{"equal rows", "nano-glm4moe", tensors(one(named(down3), firstRow(128))), "rows-equal", down3, true, silentAll},
	{"equal rows of codes", int8CT, tensors(one(named("model.layers.1.self_attn.o_proj.weight"), firstRow(128))), "rows-equal", "o_proj", true, nil},
}

// Weights as far apart as those of trained models are no finding.
func TestSizesOfTrainedModels(t *testing.T) {
	for name, fn := range map[string]func(tensor) []tensor{
		"a layer four times the others": one(partly("model.layers.1.", "_proj.weight"), times(4)),
		"a head ten times":              one(partly("head.weight"), times(10)),
		"an embedding of a tenth":       one(partly("embed_tokens"), times(0.1)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := good(t, "nano-glm4moe")
			retensor(t, dir, fn)
			r := examine(t, dir, Options{Weights: true})
			assert.True(t, r.OK, r.Text())
			assert.False(t, r.Has("weight-size") || r.Has("rows-equal"), r.Text())
		})
	}
}

// What the reciprocals would be is said where they explain the size.
func TestReciprocalScalesAreNamed(t *testing.T) {
	dir := good(t, fp8CT)
	retensor(t, dir, one(partly("layers.2.self_attn", "weight_scale"), inverse))
	assert.Contains(t, examine(t, dir, Options{Weights: true, NoHashes: true}).Text(), "weight_scale they would be around 0.0")
	dir = good(t, fp8CT)
	retensor(t, dir, one(partly("layers.2.self_attn.o_proj", "weight_scale"), times(1000)))
	assert.NotContains(t, examine(t, dir, Options{Weights: true, NoHashes: true}).Text(), "1/scale")
}
