package calib

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/testkit"
)

// small is a model with one dense layer and one of two experts.
func small(t testing.TB) *glm.Config {
	cfg, err := glm.ParseConfig([]byte(`{"architectures":["Glm4MoeForCausalLM"],"model_type":"glm4_moe","hidden_size":4,"intermediate_size":6,"moe_intermediate_size":3,
		"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":2,"vocab_size":8,"n_routed_experts":2,"n_shared_experts":1,
		"num_experts_per_tok":1,"first_k_dense_replace":1,"n_group":1,"topk_group":1,"norm_topk_prob":true,"routed_scaling_factor":1.0,"rms_norm_eps":1e-5,
		"rope_theta":10000.0,"partial_rotary_factor":1.0,"attention_bias":false,"use_qk_norm":false,"max_position_embeddings":64,"hidden_act":"silu",
		"tie_word_embeddings":false,"num_nextn_predict_layers":0,"torch_dtype":"bfloat16"}`))
	require.NoError(t, err)
	return cfg
}

// imatrixTensor is a tensor of a GGUF file for tests.
type imatrixTensor struct {
	name string
	dims []uint64
	data []float32
}

func ggufOf(tensors ...imatrixTensor) []byte {
	var b, data bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	text := func(s string) { put(uint64(len(s))); b.WriteString(s) }
	b.WriteString("GGUF")
	put(uint32(3))
	put(uint64(len(tensors)))
	put(uint64(3))
	text("general.type")
	put(uint32(ggufString))
	text("imatrix")
	text("imatrix.datasets")
	put(uint32(ggufArray))
	put(uint32(ggufString))
	put(uint64(2))
	text("a.txt")
	text("b.txt")
	text("imatrix.chunk_count")
	put(uint32(4))
	put(uint32(7))
	for _, t := range tensors {
		text(t.name)
		put(uint32(len(t.dims)))
		put(t.dims)
		put(uint32(ggufF32))
		put(uint64(data.Len()))
		_ = binary.Write(&data, binary.LittleEndian, t.data)
		data.Write(make([]byte, -data.Len()&31))
	}
	b.Write(make([]byte, -b.Len()&31))
	return append(b.Bytes(), data.Bytes()...)
}

func datOf(calls uint32, tensors ...imatrixTensor) []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put(uint32(len(tensors)))
	for _, t := range tensors {
		put(uint32(len(t.name)))
		b.WriteString(t.name)
		put(calls)
		put(uint32(len(t.data)))
		put(t.data)
	}
	return b.Bytes()
}

func someGGUF() []byte {
	return ggufOf(
		imatrixTensor{"blk.0.attn_q.weight.in_sum2", []uint64{4, 1}, []float32{4, 8, 0, 2}}, imatrixTensor{"blk.0.attn_q.weight.counts", []uint64{1, 1}, []float32{4}},
		imatrixTensor{"blk.1.ffn_down_exps.weight.in_sum2", []uint64{3, 2}, []float32{1, 2, 3, 0, 0, 0}},
		imatrixTensor{"blk.1.ffn_down_exps.weight.counts", []uint64{1, 2}, []float32{2, 0}},
		imatrixTensor{"output.weight.in_sum2", []uint64{4, 1}, []float32{1, 1, 1, 1}}, imatrixTensor{"output.weight.counts", []uint64{1, 1}, []float32{4}})
}

// TestImport: both forms give mean squares under the names of the model.
func TestImport(t *testing.T) {
	cfg := small(t)
	s, unknown, err := Import(cfg, someGGUF())
	require.NoError(t, err)
	assert.Equal(t, []string{"output.weight"}, unknown)
	q := s.held["model.layers.0.self_attn.q_proj.weight"]
	require.NotNil(t, q)
	assert.Equal(t, []float64{1, 2, 0, 0.5}, q.MeanSquare())
	shown, err := s.Shown(cfg, s.find(cfg, 0, glm.AttnQ, -1))
	require.NoError(t, err)
	assert.Equal(t, q, shown)
	assert.Equal(t, []float64{0.5, 1, 1.5}, s.held["model.layers.1.mlp.experts.0.down_proj.weight"].MeanSquare())
	assert.Nil(t, s.held["model.layers.1.mlp.experts.1.down_proj.weight"], "it saw no token")

	dir := t.TempDir()
	require.NoError(t, s.Write(nil, dir, 1, 1))
	again, err := Read(dir)
	require.NoError(t, err)
	defer func() { _ = again.Close() }()
	back, err := again.Moments("model.layers.0.self_attn.q_proj.weight")
	require.NoError(t, err)
	assert.Equal(t, q.MeanSquare(), back.MeanSquare())

	s, _, err = Import(cfg, datOf(4, imatrixTensor{"blk.0.attn_q.weight", nil, []float32{4, 8, 0, 2}}))
	require.NoError(t, err)
	assert.Equal(t, []float64{1, 2, 0, 0.5}, s.held["model.layers.0.self_attn.q_proj.weight"].MeanSquare())
}

func TestImportRefuses(t *testing.T) {
	cfg := small(t)
	nan := float32(math.NaN())
	for name, raw := range map[string][]byte{
		"nothing":       {},
		"text":          []byte("hello, this is some text and no matrix"),
		"cut":           someGGUF()[:200],
		"cut data":      someGGUF()[:len(someGGUF())-64],
		"other model":   datOf(4, imatrixTensor{"blk.9.attn_q.weight", nil, []float32{1}}),
		"other width":   datOf(4, imatrixTensor{"blk.0.attn_q.weight", nil, []float32{1, 2, 3}}),
		"no calls":      datOf(0, imatrixTensor{"blk.0.attn_q.weight", nil, []float32{1, 2, 3, 4}}),
		"negative":      datOf(4, imatrixTensor{"blk.0.attn_q.weight", nil, []float32{1, -2, 3, 4}}),
		"not a number":  datOf(4, imatrixTensor{"blk.0.attn_q.weight", nil, []float32{1, nan, 3, 4}}),
		"without count": ggufOf(imatrixTensor{"blk.0.attn_q.weight.in_sum2", []uint64{4, 1}, []float32{4, 8, 0, 2}}),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Import(cfg, raw)
			assert.ErrorIs(t, err, ErrStatistics)
		})
	}
}

// FuzzImport reads any bytes as an importance matrix: they are refused, or means
// are such as are computed with.
func FuzzImport(f *testing.F) {
	f.Add(someGGUF())
	f.Add(datOf(4, imatrixTensor{"blk.0.attn_q.weight", nil, []float32{4, 8, 0, 2}}))
	cfg := small(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s *Statistics
		var err error
		testkit.AllocatesWithin(t, len(raw), 400, 1<<20, func() { s, _, err = Import(cfg, raw) })
		if err != nil {
			require.ErrorIs(t, err, ErrStatistics)
			return
		}
		for name, m := range s.held {
			require.Positive(t, m.Count, name)
			for _, v := range m.MeanSquare() {
				require.False(t, math.IsNaN(v) || v < 0, name)
			}
		}
	})
}
