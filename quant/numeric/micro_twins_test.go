//go:build (amd64 || arm64) && !purego

package numeric

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// microKinds are the formats with scales of small groups.
var microKinds = []struct {
	name string
	spec Spec
}{
	{"NVFP4", Spec{Code: E2M1, Rule: NVFP4, BlockCols: 16}},
	{"NVFP4, a scale that multiplies", Spec{Code: E2M1, Rule: NVFP4, BlockCols: 16, Times: true}},
	{"MXFP4", Spec{Code: E2M1, Rule: MX, BlockCols: 32}},
	{"MXFP8", Spec{Code: E4M3, Rule: MX, BlockCols: 32}},
}

// globalOf gives a spec the global scale of weights, or one that is drawn.
func globalOf(s *Spec, w []float32, drawn float32) error {
	if s.Rule != NVFP4 {
		return nil
	}
	var g SampleGlobal
	if err := g.Add(w, len(w)); err != nil {
		return err
	}
	if s.Global = drawn; drawn == 0 {
		s.Global = g.ScaleOf(*s)
	}
	return nil
}

// TestMicroTwins: codes, scales and errors of small groups are those of the
// plain loops, for weights of every kind and any number of groups.
func TestMicroTwins(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		kind := rapid.SampledFrom(microKinds).Draw(r, "kind")
		spec := kind.spec
		spec.Arith = rapid.SampledFrom([]Arith{Best, Compat}).Draw(r, "arithmetic")
		spec.SourceF32 = rapid.Bool().Draw(r, "float32 source")
		rows, cols := rapid.IntRange(1, 5).Draw(r, "rows"), spec.BlockCols*rapid.IntRange(1, 11).Draw(r, "groups")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 5))
		w := awkward(rng, rows*cols)
		if rapid.Bool().Draw(r, "ordinary") {
			for i := range w {
				w[i] = float32(rng.NormFloat64() * 0.02)
			}
			clear(w[:rng.IntN(len(w))/2]) // groups of zeros
		}
		drawn := float32(0)
		if rapid.Bool().Draw(r, "any global scale") {
			drawn = float32(math.Exp(rng.NormFloat64() * 20))
		}
		raw := AppendBF16(nil, w)
		d := Decoder{Size: 2, Decode: DecodeBF16, BF16: true}
		if spec.SourceF32 {
			raw, d = AppendF32(nil, w), Decoder{Size: 4, Decode: DecodeF32}
		}
		same(t, kind.name, func() any {
			s := spec
			require.NoError(r, globalOf(&s, w, drawn))
			m, st, err := QuantizeBytes(s, raw, d, rows, cols, nil)
			require.NoError(r, err)
			bits := []uint64{uint64(math.Float32bits(s.Global))}
			for _, v := range []float64{st.SumSq, st.SumErrSq, st.MaxErr, st.PlainSq} {
				bits = append(bits, math.Float64bits(v))
			}
			return []any{m.Codes, m.ScaleCodes, AppendF32(nil, m.Scales), bits}
		})
	})
}

// TestMicroTwinsExhaustively: all BF16 weights in groups of their like, so that
// every scale is met.
func TestMicroTwinsExhaustively(t *testing.T) {
	var w []float32
	for i := range 1 << 15 {
		if v := BF16ToF32(uint16(i)); v <= math.MaxFloat32 {
			w = append(w, v, -v)
		}
	}
	for _, kind := range microKinds {
		for _, arith := range []Arith{Best, Compat} {
			spec := kind.spec
			spec.Arith, spec.Global = arith, 3
			same(t, kind.name, func() any {
				m, st, err := Quantize(spec, w, 1, len(w), nil)
				require.NoError(t, err)
				return []string{digest(m.Codes), digest(m.ScaleCodes), digest(AppendF32(nil, m.Scales)), fmt.Sprint(st)}
			})
		}
	}
}

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// TestMicroTwinsRefuse: a weight that is not finite is found wherever it is.
func TestMicroTwinsRefuse(t *testing.T) {
	for _, kind := range microKinds {
		spec := kind.spec
		if spec.Rule == NVFP4 {
			spec.Global = 1
		}
		for at := range 3 * 96 {
			w := make([]float32, 3*96)
			w[at] = float32(math.Inf(1))
			_, _, err := Quantize(spec, w, 3, 96, nil)
			require.Equal(t, &NonFiniteError{Row: at / 96, Col: at % 96, Value: w[at]}, err, "%s", kind.name)
		}
	}
}
