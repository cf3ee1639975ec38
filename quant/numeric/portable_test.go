package numeric

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// portable are weights made of integers alone, the same on every architecture:
// bell-shaped around scale, with outliers and zeros.
func portable(n int, scale float32) []float32 {
	w := make([]float32, n)
	x := uint64(1)
	for i := range w {
		var sum int64
		for range 8 {
			x = x*6364136223846793005 + 1442695040888963407
			sum += int64(x>>40) - 1<<23
		}
		w[i] = float32(sum) * scale / (1 << 24)
		switch x >> 58 {
		case 0:
			w[i] *= 8
		case 1:
			w[i] = 0
		}
	}
	return w
}

// What a weight becomes is the same on every architecture and with all kernels,
// to the last bit of the error that is recorded: this test has one answer.
func TestOneAnswerEverywhere(t *testing.T) {
	const rows, cols = 131, 384
	h := sha256.New()
	for _, scale := range []float32{0.02, 3e-7, 1e-38} {
		w := portable(rows*cols, scale)
		raw := AppendBF16(nil, w)
		for _, kind := range kinds {
			for _, arith := range []Arith{Best, Compat} {
				spec := kind.spec
				spec.Arith = arith
				for _, from := range []string{"F32", "BF16"} {
					var m *Matrix
					var st Stats
					var err error
					if from == "F32" {
						m, st, err = Quantize(spec, w, rows, cols, nil)
					} else {
						m, st, err = QuantizeBytes(spec, raw, Decoder{Size: 2, Decode: DecodeBF16, BF16: true}, rows, cols, nil)
					}
					require.NoError(t, err)
					h.Write(m.Codes)
					h.Write(AppendF32(nil, m.Scales))
					for _, v := range []float64{st.SumSq, st.SumErrSq, st.MaxErr, st.PlainSq} {
						h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
					}
					fmt.Fprint(h, st.SSZ, st.SSZLast)
				}
			}
		}
	}
	assert.Equal(t, "d89c1bc85ba9a8b81519ce3463d091ed844b3d54f75e2e0172cc72e777405e7b", hex.EncodeToString(h.Sum(nil)))
}
