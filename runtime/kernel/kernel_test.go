package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/quant/numeric"
)

func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// lanes is the order of the package comment written as plainly as possible.
func lanes(a, b []float32) float32 {
	var l [8]float32
	for k := range a {
		p := a[k] * b[k]
		l[k%8] = l[k%8] + p
	}
	e, f, g, h := l[0]+l[4], l[1]+l[5], l[2]+l[6], l[3]+l[7]
	return (e + g) + (f + h)
}

func TestDotOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 70 {
		a, b := normals(r, n), normals(r, n)
		require.Equal(t, lanes(a, b), Dot(a, b), "n=%d", n)
		one := make([]float32, n)
		for i := range one {
			one[i] = 1
		}
		require.Equal(t, lanes(a, one), Sum(a), "n=%d", n)
	}
}

func TestDotInt8IsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Int8(), 0, 200).Draw(t, "a")
		b := rapid.SliceOfN(rapid.Byte(), len(a), len(a)).Draw(t, "b")
		var want int32
		for i := range a {
			want += int32(a[i]) * int32(int8(b[i]))
		}
		assert.Equal(t, want, DotInt8(a, b))
	})
	worst := slices.Repeat([]int8{-128}, 131071)
	bytes := slices.Repeat([]byte{0x80}, 131071)
	assert.Equal(t, int32(131071*16384), DotInt8(worst, bytes), "the longest row does not overflow")
}

// matrix makes a random quantised weight.
func matrix(r *rand.Rand, code numeric.Code, rows, cols, br, bc int) *numeric.Matrix {
	m := &numeric.Matrix{Code: code, Rows: rows, Cols: cols, BlockRows: br, BlockCols: bc}
	m.Codes = make([]byte, rows*m.RowBytes())
	for i := range m.Codes {
		m.Codes[i] = byte(r.Uint32())
		if code == numeric.E4M3 && m.Codes[i]&0x7f == 0x7f {
			m.Codes[i] = 0
		}
		if code == numeric.Int4 && cols%2 == 1 && (i+1)%m.RowBytes() == 0 {
			m.Codes[i] &= 15
		}
	}
	m.Scales = make([]float32, m.ScaleRows()*m.ScaleCols())
	for i := range m.Scales {
		m.Scales[i] = 0.001 + r.Float32()/100
	}
	return m
}

func TestWorkersCoverEverythingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, align := rapid.IntRange(0, 300).Draw(t, "n"), rapid.IntRange(1, 40).Draw(t, "align")
		seen := make([]int32, n)
		(&Workers{N: rapid.IntRange(0, 5).Draw(t, "workers")}).Each(n, align, 1<<20, func(lo, hi int) {
			if lo%align != 0 {
				panic("not aligned")
			}
			for i := lo; i < hi; i++ {
				seen[i]++
			}
		})
		for i := range seen {
			assert.EqualValues(t, 1, seen[i])
		}
	})
}

func TestQuantizeInt8(t *testing.T) {
	a := QuantizeInt8([]float32{1, -127, 63.5, 2.5, 3.5, 0, 0, 0, 0, 0}, 2, 5, 127, nil)
	assert.Equal(t, []int8{1, -127, 64, 2, 4, 0, 0, 0, 0, 0}, a.Q, "ties to even")
	assert.Equal(t, []float32{1, 1}, a.Scale)
	a = QuantizeInt8([]float32{-127.5, 127.5}, 1, 2, CompressedDivisor, nil)
	assert.Equal(t, []int8{-128, 127}, a.Q, "the wider grid reaches -128 and clamps 127.5")
	nan := QuantizeInt8([]float32{1, float32(math.NaN())}, 1, 2, 127, nil)
	assert.True(t, math.IsNaN(float64(nan.Scale[0])), "NaN is not hidden by rounding")
	tiny := QuantizeInt8([]float32{math.SmallestNonzeroFloat32, 0}, 1, 2, 127, nil)
	assert.Equal(t, []int8{1, 0}, tiny.Q)
	g := a.Gather([]int32{0, 0})
	assert.Equal(t, []int8{-128, 127, -128, 127}, g.Q)
}

func TestQuantizeE4M3(t *testing.T) {
	a := QuantizeE4M3([]float32{448, 1, -17, 0, 896, 2.2}, 1, 6, 4, nil)
	assert.Equal(t, []float32{448, 1, -16, 0, 448, 1.125}, a.V)
	assert.Equal(t, []float32{1, 2}, a.Scale)
	g := a.Gather([]int32{0, 0})
	assert.Equal(t, append(slices.Clone(a.V), a.V...), g.V)
	assert.Equal(t, []float32{1, 2, 1, 2}, g.Scale)
}

func TestExp(t *testing.T) {
	worst := 0.0
	for x := float32(-87); x < 88.5; x += 0.00371 {
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(Exp(x))-want)/want)
	}
	assert.Less(t, worst, 2.5e-7)
	assert.Equal(t, float32(1), Exp(0))
	assert.Zero(t, Exp(float32(math.Inf(-1))))
	assert.Equal(t, float32(math.Inf(1)), Exp(90))
	assert.True(t, math.IsNaN(float64(Exp(float32(math.NaN())))))
	assert.Greater(t, Exp(-87.3), float32(0))
	assert.InEpsilon(t, math.Exp(88.7), float64(Exp(88.7)), 1e-5)
}

func TestSoftmaxSwiGLUNorm(t *testing.T) {
	s := []float32{1, 3, 2, -100}
	Softmax(s)
	sum := math.Exp(1) + math.Exp(3) + math.Exp(2)
	assert.InDelta(t, math.Exp(3)/sum, float64(s[1]), 1e-6)
	assert.InDelta(t, 1, float64(Sum(s)), 1e-6)
	Softmax(nil)
	y := make([]float32, 2)
	SwiGLU(y, []float32{2, -1}, []float32{3, 5})
	assert.InDelta(t, 6/(1+math.Exp(-2)), float64(y[0]), 1e-5)
	assert.InDelta(t, -5/(1+math.E), float64(y[1]), 1e-6)
	RMSNormRows(y, []float32{3, 4}, []float32{1, 2}, 1e-5)
	assert.InDelta(t, 3/math.Sqrt(12.5+1e-5), float64(y[0]), 1e-6)
	assert.InDelta(t, 8/math.Sqrt(12.5+1e-5), float64(y[1]), 1e-6)
}

func TestRopePairs(t *testing.T) {
	r := NewRope(10000, 8)
	cos, sin := make([]float32, 4), make([]float32, 4)
	r.Angles(cos, sin, 3)
	assert.Equal(t, float32(1), r.Inv[0])
	assert.InDelta(t, math.Cos(3*math.Pow(10000, -0.5)), float64(cos[2]), 1e-6)
	for i := range 10 {
		half, inter := make([]float32, 10), make([]float32, 10)
		half[i], inter[i] = 1, 1
		RotateHalf(half, cos, sin)
		RotateInterleaved(inter, cos, sin)
		partner := func(x []float32) (p []int) {
			for k, v := range x {
				if v != 0 {
					p = append(p, k)
				}
			}
			return p
		}
		if i >= 8 {
			assert.Equal(t, []int{i}, partner(half))
			assert.Equal(t, []int{i}, partner(inter))
			continue
		}
		assert.Equal(t, []int{i % 4, i%4 + 4}, partner(half), "half-split: i with i+4")
		assert.Equal(t, []int{i &^ 1, i | 1}, partner(inter), "interleaved: 2j with 2j+1")
	}
	x := []float32{1, 0, 0, 0, 0, 0, 0, 0}
	RotateHalf(x, cos, sin)
	assert.InDelta(t, math.Sin(3), float64(x[4]), 1e-6, "q'[i+n] = q[i]·sin")
}

func TestRoute(t *testing.T) {
	logits := []float32{0, 2, 1, 2, -1, 0.5}
	r := &Routing{TopK: 3, Normalize: true, Scale: 2.5, SelectionBias: []float32{34.5, 34.5, 34.5, 34.5, 36, 34.5}}
	ids, w := r.Route(nil, nil, logits)
	assert.Equal(t, []int32{1, 3, 4}, ids, "the bias selects expert 4, scores order them, the lower id first")
	assert.InDelta(t, 2.5, float64(w[0]+w[1]+w[2]), 1e-6)
	sig := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	assert.InDelta(t, 2.5*sig(-1)/(2*sig(2)+sig(-1)), float64(w[2]), 1e-6, "weights come without the bias")
	shifted := *r
	shifted.SelectionBias = []float32{0, 0, 0, 0, 1.5, 0}
	other, _ := shifted.Route(nil, nil, logits)
	assert.Equal(t, ids, other, "a constant added to the bias changes nothing")
	plain := &Routing{TopK: 2, Scale: 1}
	ids, w = plain.Route(nil, nil, logits)
	assert.Equal(t, []int32{1, 3}, ids)
	assert.InDelta(t, sig(2), float64(w[0]), 1e-6, "not normalised")
	grouped := &Routing{TopK: 2, Groups: 3, TopGroups: 1, Scale: 1}
	ids, _ = grouped.Route(nil, nil, logits)
	assert.Equal(t, []int32{3, 2}, ids, "only the group whose two best sum highest")
}

func TestTopIndicesEqualsStableSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := make([]float32, rapid.IntRange(1, 40).Draw(t, "n"))
		for i := range x {
			x[i] = float32(rapid.IntRange(0, 6).Draw(t, "x"))
		}
		k := rapid.IntRange(0, 45).Draw(t, "k")
		want := make([]int32, len(x))
		for i := range want {
			want[i] = int32(i)
		}
		sort.SliceStable(want, func(a, b int) bool { return x[want[a]] > x[want[b]] })
		assert.Equal(t, want[:min(k, len(x))], topIndices(x, k))
	})
}

func TestArgmax(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for _, c := range []struct {
		x    []float32
		want int
	}{{nil, -1}, {[]float32{1, 3, 3}, 1}, {[]float32{nan, 2}, 1}, {[]float32{nan, nan}, -1}, {[]float32{inf, inf}, 0}} {
		assert.Equal(t, c.want, Argmax(c.x), fmt.Sprint(c.x))
	}
}
