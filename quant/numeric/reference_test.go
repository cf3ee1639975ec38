package numeric

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	upstream "github.com/nlpodyssey/safetensors"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

type array struct {
	dtype string
	shape []uint64
	data  []byte
}

func (a array) floats(t *testing.T) []float32 {
	n := 1
	for _, d := range a.shape {
		n *= int(d)
	}
	out := make([]float32, n)
	switch a.dtype {
	case "BF16":
		DecodeBF16(out, a.data)
	case "F32":
		DecodeF32(out, a.data)
	default:
		t.Fatalf("dtype %s", a.dtype)
	}
	return out
}

// readAll reads safetensors files with the upstream library alone.
func readAll(t *testing.T, paths ...string) map[string]array {
	out := map[string]array{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		require.NoError(t, err)
		st, err := upstream.Deserialize(b)
		require.NoError(t, err)
		for _, v := range st.Tensors() {
			out[v.Name] = array{v.TensorView.DType().String(), v.TensorView.Shape(), v.TensorView.Data()}
		}
	}
	return out
}

func bf16Row(hexes ...uint16) []float32 {
	out := make([]float32, len(hexes))
	for i, h := range hexes {
		out[i] = BF16ToF32(h)
	}
	return out
}

// The rows of docs/facts/layouts.md 1.6.
func TestGoldenRow(t *testing.T) {
	row := bf16Row(0x3C4A, 0xBD0D, 0x3BE9, 0x3D3B, 0xB952, 0x3CBD, 0xBD00, 0x3C12)
	ints := func(m *Matrix) (v []int) {
		for c := range m.Cols {
			v = append(v, int(m.Value(0, c)))
		}
		return v
	}
	m, _, err := Quantize(Spec{Code: Int8, Rule: CompressedTensors, Arith: Compat, BlockRows: 1}, row, 1, 8, nil)
	require.NoError(t, err)
	assert.Equal(t, uint16(0x39BC), F32ToBF16(m.Scales[0]))
	assert.Equal(t, []int{34, -96, 20, 127, -1, 64, -87, 25}, ints(m))

	m, _, err = Quantize(Spec{Code: Int4, Rule: CompressedTensors, Arith: Compat, BlockRows: 1}, row, 1, 8, nil)
	require.NoError(t, err)
	assert.Equal(t, uint16(0x3BC7), F32ToBF16(m.Scales[0]))
	assert.Equal(t, []int{2, -6, 1, 7, 0, 4, -5, 1}, ints(m))
	assert.Equal(t, []byte{0x2A, 0xF9, 0xC8, 0x93}, AppendInt4Words(nil, m.Codes, 8))

	m, _, err = Quantize(Spec{Code: E4M3, Rule: CompressedTensors, Arith: Compat, BlockRows: 1}, row, 1, 8, nil)
	require.NoError(t, err)
	assert.Equal(t, uint16(0x38D6), F32ToBF16(m.Scales[0]))
	fp8 := []byte{0x6F, 0xFB, 0x69, 0x7E, 0xC0, 0x76, 0xFA, 0x6B}
	assert.Equal(t, fp8, m.Codes)

	for _, a := range []Arith{Best, Compat} {
		m, _, err = Quantize(Spec{Code: E4M3, Rule: DeepSeekBlock, Arith: a, BlockRows: 128, BlockCols: 128}, row, 1, 8, nil)
		require.NoError(t, err)
		assert.Equal(t, []byte{0xDB, 0xB6, 0xD5, 0x38}, AppendF32(nil, m.Scales))
		assert.Equal(t, fp8, m.Codes)
	}
}

func specOf(scheme string, arith Arith) Spec {
	s := Spec{Rule: CompressedTensors, Arith: arith, BlockRows: 1}
	switch scheme {
	case "FP8_DYNAMIC":
		s.Code = E4M3
	case "FP8_BLOCK":
		s.Code, s.BlockRows, s.BlockCols = E4M3, 128, 128
	case "W8A8":
		s.Code = Int8
	case "W4A8":
		s.Code, s.BlockCols = Int4, 128
	}
	return s
}

// Every tensor that llm-compressor wrote, byte for byte, and a smaller squared
// error with the default arithmetic.
func TestLLMCompressorBytes(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "tiny-glm4moe"} {
		files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "reference/"+model), "*.safetensors"))
		require.NoError(t, err)
		src := readAll(t, files...)
		raw, err := os.ReadFile(testkit.Shared(t, "reference/golden/"+model+"/quantized_tensors.json"))
		require.NoError(t, err)
		var golden map[string]map[string]struct {
			DType  string
			Shape  []int
			SHA256 string
		}
		require.NoError(t, json.Unmarshal(raw, &golden))
		for scheme, tensors := range golden {
			n := 0
			var sumBest, sumCompat Stats
			for name, want := range tensors {
				module, ok := strings.CutSuffix(name, ".weight_scale")
				if !ok {
					continue
				}
				n++
				w := src[module+".weight"]
				rows, cols := int(w.shape[0]), int(w.shape[1])
				x := w.floats(t)
				m, st, err := Quantize(specOf(scheme, Compat), x, rows, cols, nil)
				require.NoError(t, err)
				assert.Equal(t, want.SHA256, hash(AppendBF16(nil, m.Scales)), "%s %s", scheme, name)
				codes := m.Codes
				if m.Code == Int4 {
					codes = UnpackNibbles(nil, codes, cols)
				}
				assert.Equal(t, tensors[module+".weight"].SHA256, hash(codes), "%s %s codes", scheme, module)
				_, best, err := Quantize(specOf(scheme, Best), x, rows, cols, nil)
				require.NoError(t, err)
				assert.Less(t, best.SumErrSq, st.SumErrSq, "%s %s %s: best must beat compat", model, scheme, module)
				sumBest.Add(best)
				sumCompat.Add(st)
			}
			require.NotZero(t, n)
			t.Logf("%s %s: %d tensors equal; squared error best/compat %.4f", model, scheme, n, sumBest.SumErrSq/sumCompat.SumErrSq)
		}
	}
}

func hash(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

// msmodelslim's own outputs for BF16 weights.
func TestMsmodelslimVectors(t *testing.T) {
	v := readAll(t, testkit.Shared(t, "peers/msmodelslim-vectors.safetensors"))
	w := v["bf16.W"].floats(t)
	const n, k = 64, 256
	for _, c := range []struct {
		name string
		code Code
	}{{"i8", Int8}, {"ssz50", Int4}} {
		m, st, err := Quantize(Spec{Code: c.code, Rule: Ascend, Arith: Compat, BlockRows: 1}, w, n, k, nil)
		require.NoError(t, err)
		assert.Equal(t, v["bf16."+c.name+".scale"].data, AppendBF16(nil, m.Scales), c.name)
		codes := m.Codes
		if c.code == Int4 {
			codes = UnpackNibbles(nil, codes, k)
		}
		assert.True(t, bytes.Equal(v["bf16."+c.name+".q"].data, codes), c.name)
		_, best, err := Quantize(Spec{Code: c.code, Rule: Ascend, Arith: Best, BlockRows: 1}, w, n, k, nil)
		require.NoError(t, err)
		assert.Less(t, best.SumErrSq, st.SumErrSq)
		t.Logf("ascend %s: squared error best/compat %.4f", c.name, best.SumErrSq/st.SumErrSq)
		if c.code != Int4 {
			continue
		}
		pairs, err := AppendInt4RowPairs(nil, m.Codes, k)
		require.NoError(t, err)
		assert.Equal(t, v["bf16.ssz50.packed"].data, pairs)
		for parts, name := range map[int]string{1: "gate", 16: "down"} {
			bias, err := ScaleBias(m, parts)
			require.NoError(t, err)
			want := v["bf16.ssz50.scale_bias_"+name].floats(t)
			for i := range want {
				assert.InDelta(t, want[i], bias[i], 1e-5*(1+abs(want[i])), "%s %d", name, i)
			}
		}
	}
}

func abs(f float32) float64 { return float64(max(f, -f)) }
