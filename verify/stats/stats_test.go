package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// by hand: p = (1/2, 1/2), q = (1/4, 3/4).
func TestCompareByHand(t *testing.T) {
	r := Compare([]float32{0, 0}, []float32{0, float32(math.Log(3))}, 1)
	assert.InDelta(t, 0.5*math.Log(2)+0.5*math.Log(2.0/3), r.KL, 1e-7)
	assert.InDelta(t, 0.25*math.Log(0.5)+0.75*math.Log(1.5), r.Reverse, 1e-7)
	assert.InDelta(t, math.Log(2), r.NLL, 1e-7)
	assert.InDelta(t, -math.Log(0.75), r.OtherN, 1e-7)
	assert.True(t, r.Flip(), "the source's tie goes to the lower index")
	assert.True(t, math.IsInf(r.NRMSE, 1), "a flat source has no scale")
}

func TestCompareProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		gen := rapid.SliceOfN(rapid.Float32Range(-30, 30), n, n)
		z, y := gen.Draw(t, "z"), gen.Draw(t, "y")
		r := Compare(z, y, -1)
		back := Compare(y, z, -1)
		assert.InDelta(t, r.KL, back.Reverse, 1e-9*(1+r.KL))
		assert.InDelta(t, r.JS, back.JS, 1e-9)
		assert.LessOrEqual(t, r.JS, math.Ln2+1e-12)
		same := Compare(z, z, -1)
		assert.Zero(t, same.KL)
		assert.Zero(t, same.NRMSE)
		assert.False(t, same.Flip())
		shifted := make([]float32, n)
		for i := range z {
			shifted[i] = z[i] + 4
		}
		assert.InDelta(t, 0, Compare(z, shifted, -1).KL, 1e-5, "a shift of all logits means nothing")
	})
}

func TestNonFiniteIsInfinitelyWrong(t *testing.T) {
	r := Compare([]float32{1, 2}, []float32{1, float32(math.NaN())}, -1)
	assert.True(t, r.NonFinite)
	assert.True(t, math.IsInf(r.KL, 1))
	s := Summarize([]Row{r, Compare([]float32{1, 2}, []float32{1, 2}, -1)})
	assert.Equal(t, 1, s.NonFinite)
	assert.True(t, math.IsInf(s.MeanKL, 1))
}

func TestTop(t *testing.T) {
	r := Compare([]float32{5, 1, 5, 9, 2, 0, 7, 5}, []float32{1, 1, 1, 1, 1, 1, 1, 1}, -1)
	assert.Equal(t, 3, r.Top1)
	assert.Equal(t, 2.0, r.Margin)
	assert.Equal(t, 0, r.Other, "the lower index wins ties")
	assert.Equal(t, 3, r.Top5, "3 6 0 2 7 and 0 1 2 3 4")
}

// TestPieces: a row that comes in runs is the row that comes whole, to the bit.
func TestPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "n")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		z, y := noisy(rng, n, 2.5, rapid.Float64Range(0, 3).Draw(t, "noise"))
		next := rng.IntN(n+1) - 1
		a := NewAccumulator(next)
		for lo := 0; lo < n; {
			hi := min(n, lo+1+rng.IntN(40))
			a.Add(z[lo:hi], y[lo:hi])
			lo = hi
		}
		want := Compare(z, y, next)
		got := a.Row()
		if next < 0 {
			assert.True(t, math.IsNaN(got.NLL))
			got.NLL, got.OtherN, want.NLL, want.OtherN = 0, 0, 0, 0
		}
		assert.Equal(t, want, got)
	})
}

func noisy(rng *rand.Rand, n int, sigma, noise float64) (z, y []float32) {
	for range n {
		v := float32(rng.NormFloat64() * sigma)
		z, y = append(z, v), append(y, v+float32(rng.NormFloat64()*noise))
	}
	return z, y
}

// TestAgainstDefinitions: the streamed sums are those of the definitions, from
// hardly different rows to rows that have nothing in common.
func TestAgainstDefinitions(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, noise := range []float64{1e-3, 0.02, 0.1, 0.5, 2, 8} {
		for range 20 {
			z, y := noisy(rng, 3000, 2.5, noise)
			for i := range y {
				y[i] += 30 // means nothing
			}
			r := Compare(z, y, -1)
			var kl, rev, js, entropy float64
			lz, ly := lse(z), lse(y)
			for i := range z {
				lp, lq := float64(z[i])-lz, float64(y[i])-ly
				p, q := math.Exp(lp), math.Exp(lq)
				m := math.Log((p + q) / 2)
				kl += p * (lp - lq)
				rev += q * (lq - lp)
				js += (p*(lp-m) + q*(lq-m)) / 2
				entropy -= p * lp
			}
			assert.InEpsilon(t, kl, r.KL, 1e-6)
			assert.InEpsilon(t, rev, r.Reverse, 1e-6)
			assert.InEpsilon(t, js, r.JS, 2e-3, "noise %g", noise)
			assert.InEpsilon(t, entropy, r.Entropy, 1e-9)
		}
	}
}

func lse(z []float32) float64 {
	var s float64
	for _, v := range z {
		s += math.Exp(float64(v))
	}
	return math.Log(s)
}

// The KL of Gaussian noise of deviation s is close to s²/2 (1 − Σp²).
func TestSummaryOfNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var rows []Row
	for i := range 256 {
		z, y := make([]float32, 2000), make([]float32, 2000)
		for j := range z {
			z[j] = float32(rng.NormFloat64() * 2.5)
			y[j] = z[j] + float32(rng.NormFloat64()*0.1)
		}
		r := Compare(z, y, -1)
		r.Seq = i / 16
		rows = append(rows, r)
	}
	s := Summarize(rows)
	assert.InDelta(t, 0.005, s.MeanKL, 0.0008)
	assert.InDelta(t, 0.04, s.NRMSE, 0.004)
	assert.InDelta(t, 2.5, s.Sigma, 0.1)
	assert.Equal(t, 16, s.Sequences)
	assert.Greater(t, s.Upper95, s.MeanKL)
	assert.Less(t, s.Upper95, 1.2*s.MeanKL)
	assert.Less(t, s.Lower999, s.MeanKL)
	assert.LessOrEqual(t, s.P50, s.P99)
	assert.Equal(t, s.Upper95, Summarize(rows).Upper95, "the bootstrap is seeded")
}

func TestUpperBoundCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const trials, mean = 200, 0.01
	covered := 0
	for range trials {
		var rows []Row
		for seq := range 16 {
			level := mean * rng.ExpFloat64() // tokens of a sequence are correlated
			for range 8 {
				rows = append(rows, Row{Seq: seq, KL: level})
			}
		}
		if Summarize(rows).Upper95 >= mean {
			covered++
		}
	}
	require.GreaterOrEqual(t, covered, trials*85/100, "a 95 %% bound from 16 blocks covers nearly as often as it says")
}

func TestEmpty(t *testing.T) { assert.Zero(t, Summarize(nil)) }

// TestSequentialCoverage: bounds that are looked at after each of 64 sequences
// are hardly ever wrong, and narrow with them.
func TestSequentialCoverage(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const trials, mean = 400, 0.003
	wrong := 0
	for trial := range trials {
		var rows []Row
		last := math.Inf(1)
		bad := false
		for seq := range 64 {
			level := mean * (rng.ExpFloat64() + rng.ExpFloat64()) / 2
			for range 8 {
				rows = append(rows, Row{Seq: seq, KL: level * rng.ExpFloat64()})
			}
			lower, upper := Sequential(rows)
			require.LessOrEqual(t, lower, upper)
			if seq+1 < MinSequences {
				require.True(t, math.IsInf(upper, 1))
				continue
			}
			bad = bad || lower > mean || upper < mean
			last = upper - lower
		}
		if bad {
			wrong++
		}
		if trial == 0 {
			assert.Less(t, last, 2*mean)
		}
	}
	// Twice 0.1 % by design; few sequences whose spread happens to look small
	// cost some more.
	assert.LessOrEqual(t, wrong, trials*3/100)
	t.Logf("%d of %d runs were ever wrong", wrong, trials)
}

func TestSequentialOfDamage(t *testing.T) {
	lower, upper := Sequential([]Row{{Seq: 0, KL: math.Inf(1)}, {Seq: 1}, {Seq: 2}, {Seq: 3}, {Seq: 4}, {Seq: 5}, {Seq: 6}, {Seq: 7}})
	assert.Zero(t, lower)
	assert.True(t, math.IsInf(upper, 1))
	same := []Row{{Seq: 0}, {Seq: 1}, {Seq: 2}, {Seq: 3}, {Seq: 4}, {Seq: 5}, {Seq: 6}, {Seq: 7}}
	lower, upper = Sequential(same)
	assert.Zero(t, lower)
	assert.Zero(t, upper)
}
