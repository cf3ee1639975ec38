package runtime

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/safetensors"
)

// arrays reads a golden file.
type arrays struct {
	t *testing.T
	f *safetensors.File
}

func goldens(t *testing.T, name string) arrays {
	f, err := safetensors.OpenFile(testkit.Shared(t, "reference/golden/"+name))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return arrays{t, f}
}

func (a arrays) has(name string) bool { _, ok := a.f.Tensor(name); return ok }

func (a arrays) raw(name string, d safetensors.DType) ([]byte, []int64) {
	info, ok := a.f.Tensor(name)
	require.True(a.t, ok, name)
	require.Equal(a.t, d, info.DType, name)
	b := make([]byte, info.Size)
	require.NoError(a.t, a.f.ReadTensor(info, 0, b))
	return b, info.Shape
}

func (a arrays) floats(name string) []float32 {
	b, _ := a.raw(name, safetensors.F32)
	out := make([]float32, len(b)/4)
	floatType(safetensors.F32).Decode(out, b)
	return out
}

func (a arrays) ints(name string) []int {
	b, _ := a.raw(name, safetensors.I32)
	out := make([]int, len(b)/4)
	for i := range out {
		out[i] = int(int32(uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24))
	}
	return out
}

func load(t testing.TB, name string, o Options) *Model {
	m, err := Load(testkit.Shared(t, "reference/"+name), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// compare gives max |got−want| in units of want's standard deviation.
func compare(t *testing.T, what string, want, got []float32) float64 {
	require.Len(t, got, len(want), what)
	var sum, sq, top float64
	for i, w := range want {
		sum += float64(w)
		sq += float64(w) * float64(w)
		top = max(top, math.Abs(float64(got[i])-float64(w)))
		require.False(t, math.IsNaN(float64(got[i])), "%s[%d]", what, i)
	}
	n := float64(len(want))
	return top / math.Sqrt(sq/n-(sum/n)*(sum/n))
}

// sameTop checks that rows agree on the largest logit where it leads by more
// than the tolerance.
func sameTop(t *testing.T, what string, want, got []float32, vocab int, tol float64) {
	for r := 0; r < len(want)/vocab; r++ {
		w := want[r*vocab:][:vocab]
		best := Top(w, vocab)[0]
		second := math.Inf(-1)
		for i, v := range w {
			if i != best {
				second = max(second, float64(v))
			}
		}
		if float64(w[best])-second > tol {
			assert.Equal(t, best, Top(got[r*vocab:][:vocab], vocab)[0], "%s row %d", what, r)
		}
	}
}

const tolerance = 1e-4 // of the array's standard deviation

var models = []string{"nano-glm4moe", "tiny-glm4moe", "nano-glm45v", "nano-glm5", "nano-glm52"}

// asReference has the reference's eps of latent norms.
var asReference = Options{LatentEps: 1e-6}

func TestGoldenForward(t *testing.T) {
	for _, name := range models {
		t.Run(name, func(t *testing.T) {
			g, m := goldens(t, name+"/golden.safetensors"), load(t, name, asReference)
			v := m.cfg.VocabSize
			var seqs [][]int
			for i := range 6 {
				seqs = append(seqs, g.ints(fmt.Sprintf("seq%d.ids", i)))
			}
			out, err := m.Evaluate(context.Background(), seqs, EvalOptions{Logits: true, Hidden: true, Router: true, Keys: true})
			require.NoError(t, err)
			worst := 0.0
			for i, e := range out {
				what := fmt.Sprintf("seq%d.logits", i)
				want := g.floats(what)
				got := e.Logits[len(e.Logits)-len(want):]
				d := compare(t, what, want, got)
				worst = max(worst, d)
				assert.Less(t, d, tolerance, what)
				sameTop(t, what, want, got, v, tolerance*4)
			}
			t.Logf("logits: max |Δ| = %.2g σ", worst)
			worst = 0
			for l := range m.Layers() + 1 {
				what := fmt.Sprintf("seq2.hidden.%d", l)
				d := compare(t, what, g.floats(what), out[2].Hidden[l])
				worst = max(worst, d)
				assert.Less(t, d, tolerance, what)
			}
			d := compare(t, "final", g.floats("seq2.hidden.final"), out[2].Final)
			assert.Less(t, d, tolerance, "final")
			t.Logf("hidden states: max |Δ| = %.2g σ", max(worst, d))
			sameKeys(t, g, "seq2", m, out[2])
			sameKeys(t, g, "seq5", m, out[5])
			for l := range m.Layers() {
				if m.cfg.Dense[l] {
					assert.NotContains(t, out[2].Router, l)
					continue
				}
				sameRouter(t, g, fmt.Sprintf("seq2.router.%d", l), out[2].Router[l])
			}
		})
	}
}

func sameRouter(t *testing.T, g arrays, name string, got []Selection) {
	ids, weights := g.ints(name+".ids"), g.floats(name+".weights")
	k := len(ids) / len(got)
	for r, s := range got {
		for j := range k {
			assert.EqualValues(t, ids[r*k+j], s.Experts[j], "%s row %d", name, r)
			assert.InDelta(t, weights[r*k+j], s.Weights[j], 1e-5, "%s row %d", name, r)
		}
	}
}

func TestGoldenMTP(t *testing.T) {
	for _, name := range models {
		if name == "nano-glm45v" {
			continue // no MTP layer
		}
		t.Run(name, func(t *testing.T) {
			g, m := goldens(t, name+"/golden.safetensors"), load(t, name, asReference)
			v := m.cfg.VocabSize
			out, err := m.Evaluate(context.Background(), [][]int{g.ints("seq2.ids"), g.ints("seq3.ids")}, EvalOptions{Router: true, Keys: true, MTP: 3, Rescore: true})
			require.NoError(t, err)
			worst := 0.0
			for k := 1; k <= 3; k++ {
				what := fmt.Sprintf("seq2.mtp.%d.logits", k)
				want := g.floats(what)
				d := compare(t, what, want, out[0].MTP[k-1][:len(want)])
				worst = max(worst, d)
				assert.Less(t, d, tolerance, what)
				sameTop(t, what, want, out[0].MTP[k-1], v, tolerance*4)
				for i, e := range out {
					assert.Equal(t, g.ints(fmt.Sprintf("seq%d.mtp.%d.argmax", i+2, k)), Top(e.MTP[k-1], v))
				}
			}
			t.Logf("MTP logits, steps 1-3: max |Δ| = %.2g σ", worst)
			sameRouter(t, g, "seq2.mtp.router", out[0].MTPRouter)
			for i, e := range out {
				if name := fmt.Sprintf("seq%d.mtp.1.keys", i+2); g.has(name) {
					assert.Equal(t, keySets(g, name, len(e.MTPKeys)), e.MTPKeys, name)
				}
			}
		})
	}
}

func TestGoldenGreedy(t *testing.T) {
	for _, name := range models {
		g, m := goldens(t, name+"/golden.safetensors"), load(t, name, asReference)
		for i := range 3 {
			s := m.NewSession()
			next := g.ints(fmt.Sprintf("greedy%d.prompt", i))
			var got []int
			for range 64 {
				h, err := s.Forward(context.Background(), next)
				require.NoError(t, err)
				z, err := m.Logits(context.Background(), h[len(h)-m.cfg.HiddenSize:])
				require.NoError(t, err)
				next = Top(z, m.cfg.VocabSize)
				got = append(got, next[0])
			}
			assert.Equal(t, g.ints(fmt.Sprintf("greedy%d.ids", i)), got, "%s %d", name, i)
		}
	}
}
