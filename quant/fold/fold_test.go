package fold

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

func preset(t *testing.T, name string) *glm.Config {
	cfg, err := glm.Preset(name)
	require.NoError(t, err)
	return cfg
}

// TestSitesAreComplete: what reads a norm takes part in its fold, whatever the
// family; what must not be scaled never does.
func TestSitesAreComplete(t *testing.T) {
	for _, name := range glm.Presets() {
		t.Run(name, func(t *testing.T) {
			cfg := preset(t, name)
			columns, rows := map[string]int{}, map[string]int{}
			for _, s := range Sites(cfg) {
				require.NotEmpty(t, s.Consumers, s.Name)
				for _, part := range s.Producers {
					rows[part.Tensor.Name]++
				}
				for _, part := range s.Consumers {
					columns[part.Tensor.Name]++
				}
			}
			for _, row := range cfg.Table() {
				wantRows, wantCols := 0, 0
				switch r := row.Role; {
				case row.Param == "bias" && r == glm.AttnV, r == glm.LayerNorm, r == glm.LatentNorm:
					wantRows = 1
				case row.Param != "weight", r.IsVision():
				case r == glm.AttnV, r == glm.DenseUp, r == glm.ExpertUp, r == glm.SharedUp, r == glm.AttnKVB:
					wantRows, wantCols = 1, 1
				case r.IsLinear(), r == glm.Router, r == glm.IndexerProj:
					wantCols = 1
				}
				require.Equal(t, [2]int{wantRows, wantCols}, [2]int{rows[row.Name], columns[row.Name]}, row.Name)
			}
		})
	}
}

func TestValueChannels(t *testing.T) {
	t.Run("grouped queries", func(t *testing.T) {
		cfg := preset(t, "glm-4.5-air")
		s := Sites(cfg)[1]
		require.Equal(t, Value, s.Kind)
		d, group := cfg.HeadDim, cfg.Heads/cfg.KVHeads
		require.Equal(t, group, s.Heads)
		require.Len(t, s.Producers, 2, "the bias too")
		for _, q := range []int{0, 1, group - 1, group, cfg.Heads - 1} {
			assert.Equal(t, q/group*d+3, s.Consumers[0].Channel(q*d+3))
		}
	})
	t.Run("latent", func(t *testing.T) {
		cfg := preset(t, "glm-5")
		sites := Sites(cfg)
		s := sites[slices.IndexFunc(sites, func(s Site) bool { return s.Kind == Value })]
		at, per := s.Producers[0].Channel, cfg.QKNopeHeadDim+cfg.VHeadDim
		assert.Equal(t, -1, at(per+cfg.QKNopeHeadDim-1), "key rows stay")
		assert.Equal(t, cfg.VHeadDim, at(per+cfg.QKNopeHeadDim))
		assert.Equal(t, s.Channels-1, at(cfg.Heads*per-1))
	})
}

func TestGamma(t *testing.T) {
	in := []float32{1, 1.41, 1.42, 0.71, 0.70, -8, 0, 1e-30, 3e30, float32(math.NaN())}
	assert.Equal(t, Exponents{0, 0, 1, 0, -1, 3, 0, -Most, Most, 0}, Gamma(in))
}

func encode(d safetensors.DType, v float32) []byte {
	switch d {
	case safetensors.BF16:
		return binary.LittleEndian.AppendUint16(nil, uint16(math.Float32bits(v)>>16))
	case safetensors.F32:
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))
	}
	panic(d)
}

// TestApplyIsExact: every normal value is multiplied by the power of two, or
// refused; undoing gives the bytes back.
func TestApplyIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom([]safetensors.DType{safetensors.BF16, safetensors.F32}).Draw(t, "type")
		rows, cols := rapid.IntRange(1, 4).Draw(t, "rows"), rapid.IntRange(1, 5).Draw(t, "cols")
		e := rapid.SliceOfN(rapid.Int16Range(-70, 70), rows+cols, rows+cols).Draw(t, "exponents")
		s := &Scaling{Rows: e[:rows], Cols: e[rows:], rows: rows, cols: cols}
		var data []byte
		var want []float64
		fits := true
		for i := range rows * cols {
			v := math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
			if d == safetensors.BF16 {
				v = math.Float32frombits(math.Float32bits(v) &^ 0xffff)
			}
			if math.IsNaN(float64(v)) {
				v = 0
			}
			k := int(e[i/cols]) + int(e[rows+i%cols])
			w := math.Ldexp(float64(v), k)
			if a := math.Abs(float64(v)); k != 0 && a != 0 && !math.IsInf(a, 0) {
				fits = fits && a >= 0x1p-126 && math.Abs(w) >= 0x1p-126 && math.Abs(w) < 0x1p128
			}
			data, want = append(data, encode(d, v)...), append(want, w)
		}
		before := slices.Clone(data)
		at := int64(rapid.IntRange(0, rows*cols-1).Draw(t, "first"))
		size := len(data) / (rows * cols)
		err := s.Apply(data[int(at)*size:], d, at, "x")
		if at == 0 && (err == nil) != fits {
			t.Fatalf("error %v, fits %v", err, fits)
		}
		if err != nil {
			require.ErrorIs(t, err, ErrRange)
			return
		}
		for i := int(at); i < rows*cols; i++ {
			require.Equal(t, encode(d, float32(want[i])), data[i*size:(i+1)*size])
		}
		require.NoError(t, s.Undo().Apply(data[int(at)*size:], d, at, "x"))
		require.Equal(t, before, data)
	})
}

func TestApplyRefuses(t *testing.T) {
	s := &Scaling{Cols: []int16{9, -9}, rows: 2, cols: 2}
	half := []byte{0x00, 0x04, 0x00, 0x7c} // the smallest normal F16 value, infinity
	require.NoError(t, s.Apply(slices.Clone(half), safetensors.F16, 0, "w"))
	var e *RangeError
	require.ErrorAs(t, s.Apply([]byte{0x00, 0x3c, 0x00, 0x04}, safetensors.F16, 2, "w"), &e)
	assert.Equal(t, RangeError{"w", 1, 1, -9, safetensors.F16}, *e)
	assert.ErrorContains(t, s.Apply(make([]byte, 4), safetensors.I32, 0, "w"), "folds scale BF16")
	assert.ErrorContains(t, s.Apply(make([]byte, 10), safetensors.BF16, 0, "w"), "more than")
}

func TestSet(t *testing.T) {
	cfg := preset(t, "glm-4.5-air")
	sites := Sites(cfg)
	set := NewSet()
	e := make(Exponents, sites[0].Channels)
	set.Put(&sites[0], e)
	require.Zero(t, set.Len(), "nothing moves")
	e[5] = -3
	set.Put(&sites[0], e)

	text, err := json.Marshal(set)
	require.NoError(t, err)
	assert.Less(t, len(text), 200)
	var back Set
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, set.Hash(), back.Hash())
	scalings, err := back.Scalings(cfg)
	require.NoError(t, err)
	require.Len(t, scalings, 4)
	assert.Equal(t, int16(3), scalings[sites[0].Name].Rows[5])
	assert.Equal(t, int16(-3), scalings["model.layers.0.self_attn.k_proj.weight"].Cols[5])

	for name, bad := range map[string]string{"another tensor": `{"x":"AQAA"}`, "another length": `{"model.layers.0.input_layernorm.weight":"AQAA//8="}`,
		"no base64": `{"x":"*"}`, "not deflated": `{"x":"////"}`} {
		t.Run(name, func(t *testing.T) {
			var s Set
			err := json.Unmarshal([]byte(bad), &s)
			if err == nil {
				_, err = s.Scalings(cfg)
			}
			assert.Error(t, err)
		})
	}
}
