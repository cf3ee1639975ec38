package check

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// halved halves the codes of the first quarter of a weight and leaves the
// scales: what they stand for then has half the size, and no maximum gives such
// a scale.
func halved(code func(b byte) byte) func(x tensor) []tensor {
	return func(x tensor) []tensor {
		for i := range x.data[:len(x.data)/4] {
			x.data[i] = code(x.data[i])
		}
		return []tensor{x}
	}
}

func halfInt8(b byte) byte { return byte(int8(b) / 2) }

func halfFP8(b byte) byte {
	if b&0x7f >= 16 {
		return b - 8
	}
	return b
}

func halfOffset(b byte) byte {
	half := func(c byte) byte { return byte((int(c)-8)/2 + 8) }
	return half(b&15) | half(b>>4)<<4
}

func init() {
	const up = "model.layers.1.mlp.experts.3.up_proj."
	mutations = append(mutations, []mutation{
		{"codes halved, int8", int8CT, tensors(one(named(up+"weight"), halved(halfInt8))), "codes-short", up + "weight_scale", false, nil},
		{"codes halved, int8 for Ascend", int8Asc, tensors(one(named(up+"weight"), halved(halfInt8))), "codes-short", up + "weight_scale", false, nil},
		{"codes halved, fp8", fp8CT, tensors(one(named(up+"weight"), halved(halfFP8))), "codes-short", up + "weight_scale", false, nil},
		{"codes halved, fp8 blocks", blockHF, tensors(one(named("model.layers.1.self_attn.o_proj.weight"), func(x tensor) []tensor {
			for i := range x.data {
				x.data[i] = halfFP8(x.data[i])
			}
			return []tensor{x}
		})), "codes-short", "o_proj.weight_scale_inv", false, nil},
		{"codes halved, packed", packedCT, tensors(one(named(up+"weight_packed"), halved(halfOffset))), "codes-short", up + "weight_scale", false, nil},
		{"a row of codes zero", int8CT, tensors(one(named(up+"weight"), func(x tensor) []tensor {
			clear(x.data[:x.Shape[1]])
			return []tensor{x}
		})), "codes-short", up + "weight_scale", false, nil},
		{"copies of an Ascend folder, rows swapped", int8Asc, tensors(one(named("model.layers.3.embed_tokens.weight"), func(x tensor) []tensor {
			row := x.data[256:512]
			copy(x.data[256:], x.data[512:768])
			copy(x.data[512:], append([]byte{}, row...))
			return []tensor{x}
		})), "mtp-copy-stale", "embed_tokens", true, nil},
	}...)
}

// TestLearntCodesReachTheirEnd: methods that learn codes from data leave the
// largest of some rows a few steps short of the end, which is no fault.
func TestLearntCodesReachTheirEnd(t *testing.T) {
	dir := good(t, int8Asc)
	retensor(t, dir, one(named("model.layers.1.mlp.experts.3.up_proj.weight"), func(x tensor) []tensor {
		for i, b := range x.data {
			x.data[i] = byte(min(max(int8(b), -112), 112))
		}
		return []tensor{x}
	}))
	assert.False(t, examine(t, dir, Options{Weights: true, NoHashes: true}).Has("codes-short"))
}

// TestCopiesWithHashes: where every byte is hashed the copies are compared as
// well, and a caller may ask for them alone.
func TestCopiesWithHashes(t *testing.T) {
	dir := good(t, int8Asc)
	retensor(t, dir, one(named("model.layers.3.shared_head.head.weight"), func(x tensor) []tensor {
		clear(x.data[:256])
		return []tensor{x}
	}))
	assert.True(t, examine(t, dir, Options{Copies: true}).Has("mtp-copy-stale"))
	assert.False(t, examine(t, dir, Options{NoHashes: true}).Has("mtp-copy-stale"))
}

func TestSizesOfCodes(t *testing.T) {
	for b := range 256 {
		v := int(int8(b))
		assert.Equal(t, byte(min(max(v, -v), 127)), intSize(byte(b)))
	}
	assert.Equal(t, byte(7), nibbles(0x80), "-8 and 0")
	assert.Equal(t, byte(5), nibbles(0xa3), "2 and -5")
	assert.Equal(t, byte(7), signed(8), "-8")
	assert.Equal(t, byte(1), signed(15), "-1")
	assert.Equal(t, byte(3), signed(3))
}
