package verify_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// eachCodes edits the codes and scales of every quantized weight of a result
// whose codes are a byte each.
func eachCodes(t *testing.T, dir string, edit func(codes []byte, dtype safetensors.DType, scale func(f func(float32) float32))) {
	t.Helper()
	_, err := mutate.Edit(dir, func(s mutate.Set) (bool, error) {
		n := 0
		for name, x := range s {
			scale := s[name+"_scale"]
			if scale == nil {
				scale = s[name+"_scale_inv"]
			}
			if scale == nil {
				continue
			}
			n++
			edit(x.Data, x.DType, func(f func(float32) float32) {
				for i := 0; scale.DType == safetensors.F32 && i < len(scale.Data); i += 4 {
					binary.LittleEndian.PutUint32(scale.Data[i:], math.Float32bits(f(math.Float32frombits(binary.LittleEndian.Uint32(scale.Data[i:])))))
				}
				for i := 0; scale.DType == safetensors.BF16 && i < len(scale.Data); i += 2 {
					v := numeric.RoundBF16(f(math.Float32frombits(uint32(binary.LittleEndian.Uint16(scale.Data[i:])) << 16)))
					binary.LittleEndian.PutUint16(scale.Data[i:], uint16(math.Float32bits(v)>>16))
				}
			})
		}
		require.Positive(t, n)
		return true, nil
	})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, quant.ManifestName)))
}

// TestUniformFaultsWithoutManifest: a fault that all weights share agrees with
// no rounding that is known, and without a manifest nothing says what rounding
// was meant. It shows in how codes and scales are used all the same.
func TestUniformFaultsWithoutManifest(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	type pair struct {
		scheme quant.Scheme
		format quant.Format
	}
	int8s := []pair{{layout.W8A8, layout.CompressedTensors}, {layout.W8A8, layout.Ascend}}
	int4s := []pair{{layout.W4A8, layout.CompressedTensors}}
	fp8s := []pair{{layout.FP8, layout.CompressedTensors}, {layout.FP8Block, layout.HFFP8}}
	for _, c := range []struct {
		name  string
		pairs []pair
		says  string
		edit  func(codes []byte, d safetensors.DType, scale func(func(float32) float32))
	}{
		{"codes one nearer to zero", int8s, "codes are cut off", func(q []byte, d safetensors.DType, _ func(func(float32) float32)) {
			for i := range q {
				if v := int8(q[i]); v > 0 && i%2 == 0 {
					q[i]--
				} else if v < 0 && i%2 == 0 {
					q[i]++
				}
			}
		}},
		{"six bits in eight", int8s, "multiple of 4", func(q []byte, d safetensors.DType, _ func(func(float32) float32)) {
			for i := range q {
				q[i] = byte(int8(math.RoundToEven(float64(int8(q[i]))/4)*4) & -4)
			}
		}},
		{"half of the range", int8s, "less than half of the codes' range", func(q []byte, d safetensors.DType, scale func(func(float32) float32)) {
			for i := range q {
				q[i] = byte(int8(math.RoundToEven(float64(int8(q[i])) / 2.1)))
			}
			scale(func(s float32) float32 { return s * 2.1 })
		}},
		{"scales 3 % too large", append(int8s, fp8s...), "scales are wrong", func(_ []byte, _ safetensors.DType, scale func(func(float32) float32)) {
			scale(func(s float32) float32 { return s * 1.03 })
		}},
		{"scales a tenth too large", int4s, "scales are wrong", func(_ []byte, _ safetensors.DType, scale func(func(float32) float32)) {
			scale(func(s float32) float32 { return s * 1.1 })
		}},
		{"scales a tenth too small", int4s, "scales are wrong", func(_ []byte, _ safetensors.DType, scale func(func(float32) float32)) {
			scale(func(s float32) float32 { return s * 0.9 })
		}},
		{"noise", int8s, "away from the source", func(q []byte, _ safetensors.DType, _ func(func(float32) float32)) {
			for i := range q {
				if v := int8(q[i]); v > -120 && v < 120 {
					q[i] = byte(v + [4]int8{-2, 2, 1, -1}[i%4])
				}
			}
		}},
	} {
		for _, p := range c.pairs {
			t.Run(c.name+"/"+string(p.scheme)+" "+string(p.format), func(t *testing.T) {
				dst := convertTo(t, src, p.scheme, p.format)
				eachCodes(t, dst, c.edit)
				r, text := static(t, src, dst)
				require.Equal(t, verify.Fail, r.Verdict, text)
				assert.Contains(t, text, c.says)
				assert.NotContains(t, text, "NaN")
				assert.False(t, r.Oracle.Computed)
			})
		}
	}
}
