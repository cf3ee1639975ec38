package runtime

import (
	"bytes"
	"context"
	"errors"
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
// distance to the BF16 logits that ours may be off: in nano-glm5 one token that
// selects other keys moves many logits, and ModelOpt's own forward pass rounds
// its inputs in another way than the engines that read its files. Activations
// at a tie of two E4M3 values fall to either side with the order of sums, which
// plain Go has otherwise.
func TestGoldenPublished(t *testing.T) {
	for _, tc := range []struct {
		dir, golden, key, base string
		weights                bool
		limit                  float64
	}{
		{"sources/nano-glm5-fp8", "sources/nano-glm5-fp8.logits", "seq2.w.logits", "nano-glm5", true, 0.01},
		{"sources/nano-glm5-fp8", "sources/nano-glm5-fp8.logits", "seq2.wa.logits", "nano-glm5", false, 0.4},
		{"sources/nano-glm4moe-fp8", "sources/nano-glm4moe-fp8.logits", "seq2.w.logits", "nano-glm4moe", true, 0.001},
		{"sources/nano-glm4moe-fp8", "sources/nano-glm4moe-fp8.logits", "seq2.wa.logits", "nano-glm4moe", false, 0.2},
		{"nano-glm4moe-quantized/NVFP4A16", "golden/nano-glm4moe/quantized_fp4", "NVFP4A16.w.seq2.logits", "nano-glm4moe", false, 0.01},
		{"foreign/modelopt-nvfp4", "golden/nano-glm4moe/engine_acts", "modelopt-nvfp4.engine.seq2.logits", "nano-glm4moe", false, 0.1},
		{"foreign/modelopt-fp8", "foreign/modelopt-fp8.logits", "seq2.wa.logits", "nano-glm4moe", false, 0.95},
	} {
		t.Run(tc.dir+"/"+tc.key, func(t *testing.T) {
			plain, g := goldens(t, tc.base+"/golden.safetensors"), goldens(t, "../"+tc.golden+".safetensors")
			m := load(t, tc.dir, Options{LatentEps: 1e-6})
			ids := plain.ints("seq2.ids")
			if tc.weights {
				m.p.(*Resident).WeightsOnly()
			}
			out, err := m.Evaluate(context.Background(), [][]int{ids}, EvalOptions{Logits: true})
			require.NoError(t, err)
			closer(t, tc.key, out[0].Logits, g.floats(tc.key), plain.floats("seq2.logits"), tc.limit)
			own, theirs := klOf(plain.floats("seq2.logits"), out[0].Logits, m.cfg.VocabSize), klOf(plain.floats("seq2.logits"), g.floats(tc.key), m.cfg.VocabSize)
			t.Logf("mean KL %.5f nats, %.5f of the golden", own, theirs)
			assert.InEpsilon(t, theirs, own, 0.12)
		})
	}
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
