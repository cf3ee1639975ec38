package runtime

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

func distance(a, b []float32) float64 {
	var sq float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sq += d * d
	}
	return math.Sqrt(sq)
}

// TestGoldenQuantized: our logits are much closer to the reference's of the
// same scheme than those are to the BF16 logits.
func TestGoldenQuantized(t *testing.T) {
	for _, name := range models[:2] { // those with quantised goldens
		dir := reference(t, name)
		plain, g := goldens(t, name+"/golden.safetensors"), goldens(t, name+"/quantized.safetensors")
		for _, scheme := range ctSchemes {
			t.Run(name+"/"+scheme.name, func(t *testing.T) {
				cfg, src := quantized(t, dir, scheme, numeric.Compat)
				m := resident(t, cfg, src, Options{ActDivisor: kernel.CompressedDivisor})
				if name != "nano-glm4moe" || scheme.name != ctW8A8.name { // that one: TestGoldenInt8Ties
					check(t, m, plain, g, scheme.name+".wa", 0.2)
				}
				if g.has(scheme.name + ".w.seq2.logits") {
					loadAll(t, m, plain.ints("seq2.ids"))
					check(t, weightOnly(t, m), plain, g, scheme.name+".w", 0.2)
				}
			})
		}
	}
}

// TestGoldenInt8Ties explains the one array that TestGoldenQuantized cannot
// hold to its limit. On compressed-tensors' grid the largest value of a token
// becomes exactly ±127.5; a negative one is rounded to −128, or to −127 if
// absmax/(absmax/127.5) comes out an ulp lower: the last bit of the token
// decides, and the whole step it decides is about a third of the rounding error
// of the token's 128 values. So an answer moves that far when its input moves by
// an ulp. The test measures how far ours moves: the reference must lie within
// that, and the tokens before the first such flip must match to 0.001 of the
// distance. The engines' divisor, 127, has no such ties.
func TestGoldenInt8Ties(t *testing.T) {
	plain, g := goldens(t, "nano-glm4moe/golden.safetensors"), goldens(t, "nano-glm4moe/quantized.safetensors")
	cfg, src := quantized(t, reference(t, "nano-glm4moe"), ctW8A8, numeric.Compat)
	ids := plain.ints("seq2.ids")
	noise := func(divisor float32, seed uint64) (logits, draft []float32) {
		m := resident(t, cfg, src, Options{ActDivisor: divisor})
		rng := rand.New(rand.NewPCG(seed, 0))
		ctx := context.Background()
		x, err := m.forward(ctx, []Step{{m.NewSession(), ids}}, nil, func(l int, x []float32) {
			for i := range x {
				if l == 0 && seed > 0 {
					x[i] = math.Float32frombits(math.Float32bits(x[i]) + rng.Uint32N(2))
				}
			}
		})
		require.NoError(t, err)
		h, err := m.FinalNorm(x)
		require.NoError(t, err)
		logits, err = m.Logits(ctx, h)
		require.NoError(t, err)
		mtp, err := m.MTP()
		require.NoError(t, err)
		s, err := NewDraftEval(mtp, [][]int{ids}, [][]float32{h}).Next(ctx, nil)
		require.NoError(t, err)
		draft, err = mtp.Logits(ctx, s[0])
		require.NoError(t, err)
		return logits, draft
	}
	logits, draft := noise(kernel.CompressedDivisor, 0)
	var own [2]float64 // typical distance of our answers from one another
	const n = 4
	for seed := range uint64(n) {
		z, d := noise(kernel.CompressedDivisor, seed+1)
		own[0] += distance(logits, z) / n
		own[1] += distance(draft, d) / n
	}
	for i, got := range [][]float32{logits, draft} {
		name := []string{"logits", "mtp.1.logits"}[i]
		want, bf16 := g.floats("W8A8.wa.seq2."+name), plain.floats("seq2."+name)
		d, limit := distance(want, got), 0.2*distance(want, bf16)
		t.Logf("%s: the reference lies %.3f away, one ulp of input moves ours by %.3f, the limit were %.3f", name, d, own[i], limit)
		assert.Greater(t, own[i], limit, "no tie: TestGoldenQuantized should hold")
		assert.Less(t, d, 1.5*own[i], name)
		if i == 0 {
			assert.Less(t, distance(want[:6*cfg.VocabSize], got[:6*cfg.VocabSize]), 0.001*distance(want[:6*cfg.VocabSize], bf16[:6*cfg.VocabSize]))
		}
	}
	a, b := noise(kernel.EngineDivisor, 0)
	c, d := noise(kernel.EngineDivisor, 1)
	t.Logf("divisor 127: %.3f, %.3f", distance(a, c), distance(b, d))
	assert.Less(t, distance(a, c), 0.1*own[0])
}

// check compares logits, and those of the first draft where there are some.
func check(t *testing.T, m *Model, plain, g arrays, prefix string, limit float64) {
	for _, i := range []int{2, 3} {
		what := fmt.Sprintf("%s.seq%d.logits", prefix, i)
		if !g.has(what) {
			continue
		}
		mtp := 0
		if i == 2 && g.has(prefix+".seq2.mtp.1.logits") {
			mtp = 1
		}
		out, err := m.Evaluate(context.Background(), [][]int{plain.ints(fmt.Sprintf("seq%d.ids", i))}, EvalOptions{Logits: true, MTP: mtp})
		require.NoError(t, err)
		closer(t, what, out[0].Logits, g.floats(what), plain.floats(fmt.Sprintf("seq%d.logits", i)), limit)
		if mtp == 1 {
			what := prefix + ".seq2.mtp.1.logits"
			closer(t, what, out[0].MTP[0], g.floats(what), plain.floats("seq2.mtp.1.logits"), limit)
		}
	}
}

func closer(t *testing.T, what string, got, want, plain []float32, limit float64) {
	require.Len(t, got, len(want), what)
	n := min(len(plain), len(want)) // the plain golden may hold the last or the first rows only
	if len(plain) < len(want) {
		want, got = want[len(want)-n:], got[len(got)-n:]
	}
	own, ours := distance(want, plain[:n]), distance(want, got)
	t.Logf("%s: %.4f of its distance to BF16", what, ours/own)
	assert.Less(t, ours, limit*own, what)
}

// loadAll has a Resident provider read every weight that a sequence needs.
func loadAll(t *testing.T, m *Model, ids []int) {
	_, err := m.Evaluate(context.Background(), [][]int{ids}, EvalOptions{MTP: 1, Logits: true})
	require.NoError(t, err)
}

// weightOnly is the same model without quantised activations.
func weightOnly(t *testing.T, m *Model) *Model {
	p := m.p.(*Resident)
	out := &Resident{l: p.l, m: map[string]*Weight{}}
	for name, w := range p.m {
		c := *w
		c.Act = format.Activation{}
		out.m[name] = &c
	}
	w, err := New(m.cfg, out, m.opt)
	require.NoError(t, err)
	return w
}

// TestGoldenQuantizedFiles runs the two checkpoints that llm-compressor wrote.
func TestGoldenQuantizedFiles(t *testing.T) {
	plain, g := goldens(t, "nano-glm4moe/golden.safetensors"), goldens(t, "nano-glm4moe/quantized.safetensors")
	for _, scheme := range []string{"FP8_DYNAMIC", "W4A8"} {
		m := load(t, "nano-glm4moe-quantized/"+scheme, Options{ActDivisor: kernel.CompressedDivisor})
		check(t, m, plain, g, scheme+".wa", 0.2)
	}
}

// TestGoldenKL: conversions with llm-compressor's arithmetic stray as far from
// the BF16 model as the table in the reference's README says (mean KL in nats
// over its 33-token sequence, half a unit of the last digit allowed). Those with
// our own rounding are no worse over all golden sequences, int4 better. FP8_BLOCK
// of nano is the exception, 0.0074 against 0.0047: two of the 230 positions choose
// another expert with it. Over the whole corpus it is none (verify's
// TestBestIsNoWorse). The table's figure is llm-compressor's arithmetic: ours in
// that arithmetic is 0.00264, in our own rounding 0.00286.
func TestGoldenKL(t *testing.T) {
	for _, c := range []struct {
		model  string
		scheme ctGroup
		table  float64
		better float64 // ours by llm-compressor's, at most; 0: not compared, see below
	}{
		{"nano-glm4moe", ctFP8, 0.00235, 1.05}, {"nano-glm4moe", ctBlock, 0.00265, 0}, {"nano-glm4moe", ctW8A8, 0.000365, 1.05}, {"nano-glm4moe", ctW4A8, 0.0245, 0.9},
		{"tiny-glm4moe", ctFP8, 0.000595, 1.05}, {"tiny-glm4moe", ctBlock, 0.000555, 1.05}, {"tiny-glm4moe", ctW8A8, 0.000345, 1.05}, {"tiny-glm4moe", ctW4A8, 0.00255, 0.9},
	} {
		table := meanKL(t, c.model, c.scheme, numeric.Compat, Options{ActDivisor: kernel.CompressedDivisor}, 2)
		assert.LessOrEqual(t, table, c.table, "%s %s", c.model, c.scheme.name)
		compat := meanKL(t, c.model, c.scheme, numeric.Compat, Options{}, 0, 1, 2, 3, 4, 5)
		best := meanKL(t, c.model, c.scheme, numeric.Best, Options{}, 0, 1, 2, 3, 4, 5)
		t.Logf("%s %s: mean KL %.3g nats as in the table; six sequences: compat %.3g, best %.3g", c.model, c.scheme.name, table, compat, best)
		if c.better == 0 {
			continue
		}
		assert.LessOrEqual(t, best, c.better*compat, "%s %s", c.model, c.scheme.name)
	}
}

func meanKL(t *testing.T, model string, scheme ctGroup, arith numeric.Arith, o Options, seqs ...int) float64 {
	g := goldens(t, model+"/golden.safetensors")
	cfg, src := quantized(t, reference(t, model), scheme, arith)
	m := resident(t, cfg, src, o)
	var ids [][]int
	for _, i := range seqs {
		ids = append(ids, g.ints(fmt.Sprintf("seq%d.ids", i)))
	}
	out, err := m.Evaluate(context.Background(), ids, EvalOptions{Logits: true})
	require.NoError(t, err)
	kl, rows := 0.0, 0
	for i, e := range out {
		want := g.floats(fmt.Sprintf("seq%d.logits", seqs[i]))
		got := e.Logits[len(e.Logits)-len(want):]
		for v := cfg.VocabSize; len(want) > 0; want, got = want[v:], got[v:] {
			kl += divergence(want[:v], got[:v])
			rows++
		}
	}
	return kl / float64(rows)
}

// divergence is KL(softmax p ‖ softmax q) in nats.
func divergence(p, q []float32) float64 {
	lse := func(z []float32) float64 {
		top, sum := float64(slices.Max(z)), 0.0
		for _, v := range z {
			sum += math.Exp(float64(v) - top)
		}
		return top + math.Log(sum)
	}
	lp, lq, kl := lse(p), lse(q), 0.0
	for i := range p {
		a, b := float64(p[i])-lp, float64(q[i])-lq
		kl += math.Exp(a) * (a - b)
	}
	return kl
}
