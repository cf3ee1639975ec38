package verify_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

func compare(t *testing.T, src, dst string, o verify.Options) (*verify.Result, string) {
	t.Helper()
	if o.Tokens == 0 {
		o.Tokens, o.SeqLen = 512, 32
	}
	r, err := verify.Compare(t.Context(), src, dst, o)
	require.NoError(t, err)
	return r, report.Text(r)
}

func TestGoodConversionsPass(t *testing.T) {
	for _, c := range []struct {
		model  string
		scheme quant.Scheme
		format quant.Format
	}{
		{"nano-glm4moe", layout.W8A8, layout.CompressedTensors},
		{"nano-glm4moe", layout.FP8, layout.CompressedTensors},
		{"nano-glm4moe", layout.FP8Block, layout.HFFP8},
		{"nano-glm4moe", layout.FP8Block, layout.CompressedTensors},
		{"nano-glm4moe", layout.W8A8, layout.Ascend},
		{"nano-glm4moe", layout.W4A8, layout.Ascend},
		{"nano-glm4moe", layout.W4A8, layout.CompressedTensors},
		{"nano-glm4moe", layout.W4A16, layout.CompressedTensors},
		{"nano-glm52", layout.W4A8, layout.Ascend},
		{"nano-glm5", layout.FP8Block, layout.HFFP8},
		{"nano-glm5", layout.W4A16, layout.CompressedTensors},
		{"nano-glm5", layout.W8A8, layout.Ascend},
	} {
		t.Run(c.model+"/"+string(c.scheme)+"/"+string(c.format), func(t *testing.T) {
			src := testkit.Shared(t, "reference/"+c.model)
			r, text := compare(t, src, convertTo(t, src, c.scheme, c.format), verify.Options{})
			require.Equal(t, verify.Pass, r.Verdict, text)
			assert.Positive(t, r.KL.Mean)
			assert.NotEmpty(t, r.Layers)
			require.NotNil(t, r.MTP, text)
			assert.Less(t, r.MTP.Error, 0.08)
			t.Logf("KL %.3g ≤ %.3g, NRMSE %.3g, flips %.3g, p99.9 %.3g, sigma %.3g, MTP %v %v control %.3g, error %.3g", r.KL.Mean, r.KL.Upper95, r.NRMSE, r.FlipRate, r.KL.P999, r.Logits.Sigma, r.MTP.Source.Agreement, r.MTP.Result.Agreement, r.MTP.Control, r.MTP.Error)
		})
	}
}

// The figures depend neither on the threads nor on the size of tiles and
// batches.
func TestWorkersChangeNoFigure(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	o := verify.Options{Tokens: 160, SeqLen: 16, Workers: 1, AllTokens: true}
	a, _ := compare(t, src, dst, o)
	o.Workers, o.MaxMemory = 2, 1<<20
	b, _ := compare(t, src, dst, o)
	b.Seconds, b.Identity.Threads, b.Bytes = a.Seconds, a.Identity.Threads, a.Bytes
	assert.Equal(t, a, b)
}

// Codes of experts that were damaged in place fail in the weights and in the
// logits.
func TestDamagedExpertsFail(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	c, err := safetensors.OpenDir(dst)
	require.NoError(t, err)
	damaged := 0
	for _, x := range c.Tensors() {
		if x.DType != safetensors.I8 || !strings.Contains(x.Name, ".experts.") {
			continue
		}
		raw := make([]byte, x.Size)
		require.NoError(t, c.ReadAt(x, 0, raw))
		name := filepath.Join(dst, x.File)
		file, err := os.ReadFile(name)
		require.NoError(t, err)
		at := bytes.Index(file, raw)
		slices.Reverse(raw)
		copy(file[at:], raw)
		require.NoError(t, os.WriteFile(name, file, 0o600))
		damaged++
	}
	require.NoError(t, c.Close())
	require.Positive(t, damaged)
	r, text := compare(t, src, dst, verify.Options{})
	require.Equal(t, verify.Fail, r.Verdict, text)
	assert.True(t, slices.ContainsFunc(r.Failed, func(f verify.Failed) bool { return f.Check == "kl" }), text)
	assert.NotEmpty(t, r.Cause)
}

// A head whose inputs are exchanged drafts nearly as often what the trunk
// chooses (nano-glm5: wrong states cost six points): its logits tell.
func TestDamagedMTPFails(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "nano-glm5"} {
		src := testkit.Shared(t, "reference/"+model)
		dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
		changed, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
			for name, x := range s {
				if !strings.HasSuffix(name, ".eh_proj.weight") {
					continue
				}
				row := len(x.Data) / int(x.Shape[0])
				for at := 0; at < len(x.Data); at += row { // embedding and state change places
					r := x.Data[at : at+row]
					copy(r, append(slices.Clone(r[row/2:]), r[:row/2]...))
				}
				return true, nil
			}
			return false, nil
		})
		require.NoError(t, err)
		require.True(t, changed)
		r, text := compare(t, src, dst, verify.Options{})
		require.Equal(t, verify.Fail, r.Verdict, text)
		assert.True(t, slices.ContainsFunc(r.Failed, func(f verify.Failed) bool { return f.Check == "mtp" }), text)
		assert.Greater(t, r.MTP.Error, 0.2, model)
	}
}

// An indexer whose keys have their rotary pairs in another order costs hardly
// any KL; its choice of keys tells.
func TestDamagedIndexerFails(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm5")
	dst := convertTo(t, src, layout.W8A8, layout.Ascend)
	changed, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
		x := s["model.layers.1.self_attn.indexer.wk.weight"]
		if x == nil {
			return false, nil
		}
		const rope = 16 // qk_rope_head_dim
		row, old := len(x.Data)/int(x.Shape[0]), slices.Clone(x.Data)
		for i := range rope { // (0, 1), (2, 3), … becomes (0, 8), (1, 9), …
			copy(x.Data[(i/2+i%2*rope/2)*row:][:row], old[i*row:])
		}
		return true, nil
	})
	require.NoError(t, err)
	require.True(t, changed)
	r, text := compare(t, src, dst, verify.Options{})
	require.Equal(t, verify.Fail, r.Verdict, text)
	assert.True(t, slices.ContainsFunc(r.Failed, func(f verify.Failed) bool { return f.Where == "layer 1" && strings.Contains(f.Detail, "keys") }), text)
	t.Logf("overlap %.3f, KL %.4f", r.Layers[1].KeysOwn, r.KL.Mean)
	assert.Less(t, r.Layers[1].KeysOwn, 0.9)
	assert.Greater(t, r.Layers[0].KeysOwn, 0.95)
}

func TestTooFewTokens(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	r, text := compare(t, src, dst, verify.Options{Tokens: 32, SeqLen: 16})
	assert.Equal(t, verify.Undecided, r.Verdict, text)
	assert.Contains(t, r.Reason, "too few")
}

// TestStopsEarly: where memory holds a few sequences only, those of the first
// batches decide, and the weights are not read for the rest. What is read does
// not depend on the threads.
func TestStopsEarly(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	o := verify.Options{Tokens: 640, SeqLen: 32, MaxMemory: 4 << 20, Workers: 1, Tol: 0.2}
	r, text := compare(t, src, dst, o)
	require.Equal(t, verify.Pass, r.Verdict, text)
	require.NotNil(t, r.Stopped, text)
	assert.Equal(t, "pass", r.Stopped.Rule)
	assert.Equal(t, 20, r.Stopped.Planned)
	assert.GreaterOrEqual(t, r.Stopped.Sequences, 8)
	assert.Less(t, r.Stopped.Sequences, 16)
	assert.Equal(t, r.Stopped.Sequences*(32-4), r.Tokens)
	assert.Contains(t, text, "which decide")
	o.Workers = 2
	again, _ := compare(t, src, dst, o)
	again.Seconds, again.Identity.Threads = r.Seconds, r.Identity.Threads
	assert.Equal(t, r, again)

	// Nothing stops that was asked not to.
	o.AllTokens = true
	r, _ = compare(t, src, dst, o)
	assert.Nil(t, r.Stopped)
	assert.Equal(t, 640-20*4, r.Tokens)

	// The other way round.
	_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) {
		for name, x := range s {
			if strings.HasSuffix(name, "o_proj.weight") {
				slices.Reverse(x.Data)
			}
		}
		return true, nil
	})
	require.NoError(t, err)
	o.Tol, o.AllTokens = 0, false
	r, text = compare(t, src, dst, o)
	require.Equal(t, verify.Fail, r.Verdict, text)
	require.NotNil(t, r.Stopped, text)
	assert.Equal(t, "fail", r.Stopped.Rule)
}

// TestNoiseFloor: the source against itself, rounded to BF16 between layers, is
// far below what 8 bits cost, and not nothing.
func TestNoiseFloor(t *testing.T) {
	for _, model := range []string{"nano-glm4moe", "nano-glm5"} {
		src := testkit.Shared(t, "reference/"+model)
		r, text := compare(t, src, convertTo(t, src, layout.W8A8, ""), verify.Options{})
		assert.Positive(t, r.KL.Noise, text)
		assert.Less(t, r.KL.Noise, 0.2*r.KL.Mean, text)
		assert.Less(t, r.KL.Noise, 1e-4, text)
		t.Logf("%s: noise %.3g, KL %.3g", model, r.KL.Noise, r.KL.Mean)
		n := 0
		for _, b := range r.Logits.Histogram {
			n += b.Count
		}
		assert.Equal(t, r.Tokens, n)
	}
}

// TestBytesRead: every byte of both checkpoints is read at least once without a
// forward pass and twice with it, and small memory reads more than large.
func TestBytesRead(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
	var size int64
	for _, dir := range []string{src, dst} {
		c, err := safetensors.OpenDir(dir)
		require.NoError(t, err)
		for _, x := range c.Tensors() {
			size += x.Size
		}
		require.NoError(t, c.Close())
	}
	s, _ := static(t, src, dst)
	assert.Greater(t, s.Bytes, size)
	o := verify.Options{Tokens: 256, SeqLen: 32, AllTokens: true}
	once, _ := compare(t, src, dst, o)
	assert.Greater(t, once.Bytes, s.Bytes+size*9/10)
	assert.Less(t, once.Bytes, s.Bytes+size*2, "the head is read once for all positions")
	o.MaxMemory = 2 << 20
	often, _ := compare(t, src, dst, o)
	assert.Greater(t, often.Bytes, once.Bytes+size)
}
