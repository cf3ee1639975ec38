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
	assert.Equal(t, []int{3, 0, 2}, top([]float32{5, 1, 5, 9, 2}, 3))
	assert.Equal(t, []int{0}, top([]float32{7}, 5))
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
