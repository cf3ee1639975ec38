package numeric

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// All of msmodelslim's weight vectors, F32 sources included. There its sums run
// in another order than ours, so that scales may differ in the last bit while
// codes do not.
func TestMsmodelslimAllVectors(t *testing.T) {
	v := readAll(t, testkit.Shared(t, "peers/msmodelslim-vectors.safetensors"))
	const n, k = 64, 256
	for _, dtype := range []string{"bf16", "f32"} {
		w := v[dtype+".W"].floats(t)
		for _, c := range []struct {
			name  string
			code  Code
			steps int
		}{{"i8", Int8, 0}, {"i4", Int4, -1}, {"ssz10", Int4, 10}, {"ssz50", Int4, 0}} {
			name := dtype + "." + c.name
			spec := Spec{Code: c.code, Rule: Ascend, Arith: Compat, BlockRows: 1, SourceF32: dtype == "f32", SSZSteps: c.steps}
			m, _, err := Quantize(spec, w, n, k, nil)
			require.NoError(t, err)
			codes := m.Codes
			if c.code == Int4 {
				codes = UnpackNibbles(nil, codes, k)
			}
			assert.Equal(t, v[name+".q"].data, codes, name)
			want := v[name+".scale"].floats(t)
			if dtype == "bf16" || c.name == "i8" || c.name == "i4" {
				assert.Equal(t, want, m.Scales, name)
			} else {
				for r := range want {
					assert.InEpsilon(t, want[r], m.Scales[r], 2.5e-7, "%s row %d", name, r)
				}
			}
			if c.name != "ssz50" {
				continue
			}
			pairs, err := AppendInt4RowPairs(nil, m.Codes, k)
			require.NoError(t, err)
			assert.Equal(t, v[name+".packed"].data, pairs)
			for parts, side := range map[int]string{1: "gate", 16: "down"} {
				got, err := ScaleBias(m, parts)
				require.NoError(t, err)
				want := v[name+".scale_bias_"+side].floats(t)
				if dtype == "bf16" {
					assert.Equal(t, want, got, "%s: exact for BF16 scales", side)
					continue
				}
				for i := range want {
					assert.InDelta(t, want[i], got[i], 1e-5*(1+abs(want[i])), "%s %d", side, i)
				}
			}
		}
	}
}

// Tiles find the reference's tensor-wide stop through Stats: with every step run
// row 9 would improve once more after the tool has stopped.
func TestSSZInTiles(t *testing.T) {
	v := readAll(t, testkit.Shared(t, "peers/msmodelslim-vectors.safetensors"))
	w := v["bf16.W"].floats(t)
	const n, k, tile = 64, 256, 16
	tiles := func(steps int) (codes []byte, st Stats) {
		for r := 0; r < n; r += tile {
			spec := Spec{Code: Int4, Rule: Ascend, Arith: Compat, BlockRows: 1, SSZSteps: steps}
			m, s, err := Quantize(spec, w[r*k:(r+tile)*k], tile, k, nil)
			require.NoError(t, err)
			codes = append(codes, UnpackNibbles(nil, m.Codes, k)...)
			st.Add(s)
		}
		return codes, st
	}
	want := v["bf16.ssz50.q"].data
	codes, st := tiles(50)
	assert.NotEqual(t, want, codes)
	stop, exact := st.SSZStop(50)
	require.False(t, exact)
	codes, st = tiles(stop)
	assert.Equal(t, want, codes)
	_, exact = st.SSZStop(stop)
	assert.True(t, exact)
}
