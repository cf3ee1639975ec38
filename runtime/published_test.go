package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// TestGoldenPublished: checkpoints as Z.ai and other tools publish them give the
// logits of their own arithmetic, and its mean KL. limit is the share of the
// distance to the BF16 logits that ours may be off. Inputs that are rounded to
// FP8 lie at a tie of two codes now and then; the last bit of a sum decides it,
// and with it an expert or a key of every later token (TestGoldenFP8Ties): the
// rows before that are held to firm of the distance.
func TestGoldenPublished(t *testing.T) {
	for _, tc := range []struct {
		dir, golden, key, base string
		weights                bool
		limit                  float64
		firm                   int // rows
	}{
		{"sources/nano-glm5-fp8", "sources/nano-glm5-fp8.logits", "seq2.w.logits", "nano-glm5", true, 0.001, 0},
		{"sources/nano-glm5-fp8", "sources/nano-glm5-fp8.logits", "seq2.wa.logits", "nano-glm5", false, 0.25, 11},
		{"sources/nano-glm4moe-fp8", "sources/nano-glm4moe-fp8.logits", "seq2.w.logits", "nano-glm4moe", true, 0.001, 0},
		{"sources/nano-glm4moe-fp8", "sources/nano-glm4moe-fp8.logits", "seq2.wa.logits", "nano-glm4moe", false, 0.2, 20},
		{"nano-glm4moe-quantized/NVFP4A16", "golden/nano-glm4moe/quantized_fp4", "NVFP4A16.w.seq2.logits", "nano-glm4moe", false, 0.001, 0},
		{"foreign/modelopt-nvfp4", "golden/nano-glm4moe/engine_acts", "modelopt-nvfp4.engine.seq2.logits", "nano-glm4moe", false, 0.1, 0},
	} {
		t.Run(tc.dir+"/"+tc.key, func(t *testing.T) {
			plain, g := goldens(t, tc.base+"/golden.safetensors"), goldens(t, "../"+tc.golden+".safetensors")
			m := published(t, tc.dir)
			ids := plain.ints("seq2.ids")
			if tc.weights {
				m.p.(*Resident).WeightsOnly()
			}
			out, err := m.Evaluate(context.Background(), [][]int{ids}, EvalOptions{Logits: true})
			require.NoError(t, err)
			closer(t, tc.key, out[0].Logits, g.floats(tc.key), plain.floats("seq2.logits"), tc.limit)
			v, n := m.cfg.VocabSize, tc.firm*m.cfg.VocabSize
			if n > 0 {
				closer(t, tc.key+", first rows", out[0].Logits[:n], g.floats(tc.key)[:n], plain.floats("seq2.logits")[:n], firm)
			}
			own, theirs := klOf(plain.floats("seq2.logits"), out[0].Logits, v), klOf(plain.floats("seq2.logits"), g.floats(tc.key), v)
			t.Logf("mean KL %.5f nats, %.5f of the golden", own, theirs)
			assert.InEpsilon(t, theirs, own, 0.12)
		})
	}
}

// firm is the share of the distance to BF16 that rows without a tie may be off:
// float32 sums in another order.
const firm = 0.002

// published loads a checkpoint as its goldens were computed: with kv_b_proj in
// float32, which engines, and this runtime, round to BF16 when they widen it
// (TestQuantizedKVB). That alone is a third of what rounding inputs costs.
func published(t *testing.T, dir string) *Model {
	t.Helper()
	ckpt, err := safetensors.OpenDir(reference(t, dir))
	require.NoError(t, err)
	t.Cleanup(func() { _ = ckpt.Close() })
	cfg, err := glm.LoadConfig(ckpt.Dir())
	require.NoError(t, err)
	mem := newMemory()
	for _, x := range ckpt.Tensors() {
		raw := make([]byte, x.Size)
		require.NoError(t, ckpt.ReadAt(x, 0, raw))
		mem.add(x.Name, x.DType, raw, x.Shape...)
	}
	m := resident(t, cfg, mem, Options{LatentEps: 1e-6})
	for _, row := range cfg.Table() {
		if row.Role != glm.AttnKVB {
			continue
		}
		q, err := m.p.Tile(&row, 0)
		require.NoError(t, err)
		require.NotNil(t, q.Quant, row.Name)
		x := make([]float32, row.Elements())
		q.Quant.Dequant(x, 0, q.Rows)
		mem.remove(row.Module + ".weight_scale_inv")
		mem.add(row.Name, safetensors.F32, numeric.AppendF32(nil, x), row.Shape...)
	}
	return resident(t, cfg, mem, Options{LatentEps: 1e-6})
}

// TestGoldenFP8Ties: a last bit of the embedding moves logits of our own as far
// as the whole sequences' limits of TestGoldenPublished allow, because an input
// at a tie falls to the other side.
func TestGoldenFP8Ties(t *testing.T) {
	for dir, tc := range map[string]struct {
		base  string
		limit float64
	}{"sources/nano-glm5-fp8": {"nano-glm5", 0.05}, "sources/nano-glm4moe-fp8": {"nano-glm4moe", 0.2}} {
		plain, g := goldens(t, tc.base+"/golden.safetensors"), goldens(t, "../"+dir+".logits.safetensors")
		m, ids := published(t, dir), plain.ints("seq2.ids")
		own := distance(g.floats("seq2.wa.logits"), plain.floats("seq2.logits"))
		answer := func(seed uint64) []float32 {
			rng := rand.New(rand.NewPCG(seed, 0))
			x, err := m.forward(t.Context(), []Step{{m.NewSession(), ids}}, nil, func(l int, x []float32) {
				for i := range x {
					if l == 0 && seed > 0 {
						x[i] = math.Float32frombits(math.Float32bits(x[i]) + rng.Uint32N(2))
					}
				}
			})
			require.NoError(t, err)
			h, err := m.FinalNorm(x)
			require.NoError(t, err)
			logits, err := m.Logits(t.Context(), h)
			require.NoError(t, err)
			return logits
		}
		first, most := answer(0), 0.0
		for seed := range uint64(8) {
			most = max(most, distance(first, answer(seed+1))/own)
		}
		t.Logf("%s: one ulp of input moves ours by up to %.3f of the distance to BF16", dir, most)
		assert.Greater(t, most, tc.limit, "no tie: the limit of TestGoldenPublished can be %g", firm)
	}
}

// TestGoldenModelOptFP8: testdata holds rows 0, 1, 16 and 32 of what torch 2.14
// and transformers 5.17 compute in float32 from the file's own weights with
// inputs as engines round them: clamp(x/input_scale, ±448) to E4M3, ties to
// even. ModelOpt's own logits are of a model before its export, whose codes
// differ (3 % of them: the file's were divided in BF16), with experts' inputs in
// scales of their own; its float32 and its BF16 pass are as far from each other
// as both are from the file's arithmetic.
func TestGoldenModelOptFP8(t *testing.T) {
	plain, tool := goldens(t, "nano-glm4moe/golden.safetensors"), goldens(t, "../foreign/modelopt-fp8.logits.safetensors")
	f, err := safetensors.OpenFile("testdata/modelopt-fp8.safetensors")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	m := load(t, "foreign/modelopt-fp8", Options{})
	out, err := m.Evaluate(t.Context(), [][]int{plain.ints("seq2.ids")}, EvalOptions{Logits: true})
	require.NoError(t, err)
	ours, bf16, v := out[0].Logits, plain.floats("seq2.logits"), m.cfg.VocabSize
	var rows, base []float32
	for _, r := range []int{0, 1, 16, 32} {
		rows, base = append(rows, ours[r*v:][:v]...), append(base, bf16[r*v:][:v]...)
	}
	closer(t, "the file's arithmetic", rows, arrays{t, f}.floats("seq2.wa.logits"), base, firm)
	wide, narrow := tool.floats("seq2.wa.logits"), tool.floats("seq2.wa.logits_bf16_model")
	apart := distance(wide, narrow)
	assert.Less(t, distance(wide, ours), 1.1*apart)
	assert.Less(t, distance(narrow, ours), 1.1*apart)
	assert.InEpsilon(t, klOf(bf16, wide, v), klOf(bf16, ours, v), 0.12)
}

// TestGoldenMX: MX weights and inputs give compressed-tensors' logits, and of
// MXFP8 vLLM's, whose rule for the scales of inputs is another where nobody sees
// it.
func TestGoldenMX(t *testing.T) {
	plain := goldens(t, "nano-glm4moe/golden.safetensors")
	ct, engine := goldens(t, "nano-glm4moe/quantized_fp4.safetensors"), goldens(t, "nano-glm4moe/engine_acts.safetensors")
	for _, tc := range []struct {
		scheme ctGroup
		g      arrays
		key    string
		only   bool
		limit  float64
	}{
		{ctMXFP4, ct, "MXFP4.w.seq2.logits", true, 0.001}, {ctMXFP8, ct, "MXFP8.w.seq2.logits", true, 0.001},
		{ctMXFP4, ct, "MXFP4.wa.seq2.logits", false, 0.2}, {ctMXFP8, ct, "MXFP8.wa.seq2.logits", false, 0.2},
		{ctMXFP8, engine, "MXFP8.engine.seq2.logits", false, 0.2},
	} {
		t.Run(tc.key, func(t *testing.T) {
			cfg, src := quantized(t, reference(t, "nano-glm4moe"), tc.scheme, numeric.Compat)
			m := resident(t, cfg, src, Options{})
			if tc.only {
				m.p.(*Resident).WeightsOnly()
			}
			out, err := m.Evaluate(context.Background(), [][]int{plain.ints("seq2.ids")}, EvalOptions{Logits: true})
			require.NoError(t, err)
			closer(t, tc.key, out[0].Logits, tc.g.floats(tc.key), plain.floats("seq2.logits"), tc.limit)
		})
	}
}

// klOf is the mean KL of rows of logits from those of p.
func klOf(p, q []float32, vocab int) (sum float64) {
	for i := 0; i < len(p); i += vocab {
		sum += divergence(p[i:i+vocab], q[i:i+vocab])
	}
	return sum / float64(len(p)/vocab)
}

// TestPublishedCompute: every checkpoint of another tool computes, in memory and
// streamed alike, and its answers are near those of the model it was made of.
func TestPublishedCompute(t *testing.T) {
	plain := goldens(t, "nano-glm4moe/golden.safetensors")
	ids := plain.ints("seq2.ids")
	for _, name := range []string{"autoround-gptq", "autoround-mxfp4", "awq", "gptq-asym", "gptq-int4-int8", "modelopt-fp8", "modelopt-nvfp4", "quark-mxfp4"} {
		t.Run(name, func(t *testing.T) {
			m := load(t, "foreign/"+name, Options{})
			out, err := m.Evaluate(context.Background(), [][]int{ids}, EvalOptions{Logits: true})
			require.NoError(t, err)
			kl := klOf(plain.floats("seq2.logits"), out[0].Logits, m.cfg.VocabSize)
			t.Logf("mean KL %.4g nats", kl)
			assert.Less(t, kl, 0.15)
			assert.Greater(t, kl, 0.0)
			ckpt, err := safetensors.OpenDir(reference(t, "foreign/"+name))
			require.NoError(t, err)
			defer func() { _ = ckpt.Close() }()
			p, err := NewStreaming(m.cfg, ckpt, 5000)
			require.NoError(t, err)
			s, err := New(m.cfg, p, Options{})
			require.NoError(t, err)
			again, err := s.Evaluate(context.Background(), [][]int{ids}, EvalOptions{Logits: true})
			require.NoError(t, err)
			assert.Equal(t, out[0].Logits, again[0].Logits, "streamed")
		})
	}
}

// TestUndeclaredCodes: weights that no group means, and forms that are not
// computed, are refused by name.
func TestUndeclaredCodes(t *testing.T) {
	for name, tc := range map[string]struct{ old, neu, want string }{
		"another method":        {`"quant_method": "modelopt"`, `"quant_method": "bitsandbytes"`, "bitsandbytes"},
		"another algorithm":     {`"quant_algo": "FP8"`, `"quant_algo": "W8A8_SQ_PER_CHANNEL"`, "W8A8_SQ_PER_CHANNEL"},
		"excluded and in codes": {`"lm_head",`, `"lm_head", "*q_proj",`, "no config group targets it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(reference(t, "foreign/modelopt-fp8"))))
			path := filepath.Join(dir, "config.json")
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, 1, bytes.Count(raw, []byte(tc.old)))
			raw = bytes.Replace(raw, []byte(tc.old), []byte(tc.neu), 1)
			require.NoError(t, os.Chmod(path, 0o600))
			require.NoError(t, os.WriteFile(path, raw, 0o600))
			m, err := Load(dir, Options{})
			if err == nil {
				defer func() { _ = m.Close() }()
				_, err = m.Evaluate(context.Background(), [][]int{{1, 2, 3}}, EvalOptions{Logits: true})
			}
			require.ErrorContains(t, err, tc.want)
			assert.True(t, errors.Is(err, ErrUnsupported) || errors.Is(err, glm.ErrUnsupported), "%v", err)
		})
	}
}

// TestDeclaredBesideConfig: a folder of ModelOpt whose config.json declares
// nothing is read by its hf_quant_config.json, inputs and all.
func TestDeclaredBesideConfig(t *testing.T) {
	src := reference(t, "foreign/modelopt-nvfp4")
	dir := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.CopyFS(dir, os.DirFS(src)))
	path := filepath.Join(dir, "config.json")
	require.NoError(t, os.Chmod(path, 0o600))
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(raw, &config))
	delete(config, "quantization_config")
	raw, err = json.Marshal(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o600))

	cfg, err := glm.LoadConfig(dir)
	require.NoError(t, err)
	assert.Equal(t, "modelopt", cfg.Quantization)
	assert.Equal(t, "hf_quant_config.json", cfg.QuantizationFile)
	logits := func(dir string) []float32 {
		ckpt, err := safetensors.OpenDir(dir)
		require.NoError(t, err)
		defer ckpt.Close()
		cfg, err := glm.LoadConfig(dir)
		require.NoError(t, err)
		p, err := NewStreaming(cfg, ckpt, 1<<20)
		require.NoError(t, err)
		defer p.Stop()
		m, err := New(cfg, p, Options{})
		require.NoError(t, err)
		out, err := m.Evaluate(t.Context(), [][]int{{5, 6, 7, 8, 9, 10}}, EvalOptions{Logits: true})
		require.NoError(t, err)
		return out[0].Logits
	}
	assert.Equal(t, logits(src), logits(dir))

	require.NoError(t, os.Remove(filepath.Join(dir, "hf_quant_config.json")))
	cfg, err = glm.LoadConfig(dir)
	require.NoError(t, err)
	assert.Empty(t, cfg.Quantization)
}
