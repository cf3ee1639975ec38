package diff

import (
	"math"

	"github.com/glmconv/glmconv/quant/numeric"
)

// totals add up the differences of a weight x from y, and of both from z, what
// y should be. Everything is float64; the order is that of the elements, in four
// interleaved sums.
type totals struct {
	size, diff, ownSize, ownDiff, off [4]float64 // squares: x, y−x, z, z−x, y−z
	top                               float64    // largest |y−x|; internal/asm/compare knows the order
}

// add takes elements of x and y, and of z if there is one.
func (t *totals) add(x, y, z []float32) {
	n := len(x)
	y = y[:n]
	if z != nil {
		z = z[:n]
	}
	start := t.addVector(x, y, z)
	i := start
	s0, s1, s2, s3 := t.size[0], t.size[1], t.size[2], t.size[3]
	d0, d1, d2, d3 := t.diff[0], t.diff[1], t.diff[2], t.diff[3]
	for ; i+4 <= n; i += 4 {
		a, b := x[i:i+4:i+4], y[i:i+4:i+4]
		p0, p1, p2, p3 := float64(a[0]), float64(a[1]), float64(a[2]), float64(a[3])
		s0 += p0 * p0
		s1 += p1 * p1
		s2 += p2 * p2
		s3 += p3 * p3
		d0 += t.square(p0, float64(b[0]))
		d1 += t.square(p1, float64(b[1]))
		d2 += t.square(p2, float64(b[2]))
		d3 += t.square(p3, float64(b[3]))
	}
	t.size, t.diff = [4]float64{s0, s1, s2, s3}, [4]float64{d0, d1, d2, d3}
	for ; i < n; i++ {
		p := float64(x[i])
		t.size[i&3] += p * p
		t.diff[i&3] += t.square(p, float64(y[i]))
	}
	if z == nil {
		return
	}
	o0, o1, o2, o3 := t.ownSize[0], t.ownSize[1], t.ownSize[2], t.ownSize[3]
	e0, e1, e2, e3 := t.ownDiff[0], t.ownDiff[1], t.ownDiff[2], t.ownDiff[3]
	f0, f1, f2, f3 := t.off[0], t.off[1], t.off[2], t.off[3]
	for i = start; i+4 <= n; i += 4 {
		a, b, c := x[i:i+4:i+4], y[i:i+4:i+4], z[i:i+4:i+4]
		z0, z1, z2, z3 := float64(c[0]), float64(c[1]), float64(c[2]), float64(c[3])
		o0 += z0 * z0
		o1 += z1 * z1
		o2 += z2 * z2
		o3 += z3 * z3
		g0, g1, g2, g3 := z0-float64(a[0]), z1-float64(a[1]), z2-float64(a[2]), z3-float64(a[3])
		e0 += g0 * g0
		e1 += g1 * g1
		e2 += g2 * g2
		e3 += g3 * g3
		h0, h1, h2, h3 := float64(b[0])-z0, float64(b[1])-z1, float64(b[2])-z2, float64(b[3])-z3
		f0 += h0 * h0
		f1 += h1 * h1
		f2 += h2 * h2
		f3 += h3 * h3
	}
	t.ownSize, t.ownDiff, t.off = [4]float64{o0, o1, o2, o3}, [4]float64{e0, e1, e2, e3}, [4]float64{f0, f1, f2, f3}
	for ; i < n; i++ {
		p, q, w := float64(x[i]), float64(y[i]), float64(z[i])
		t.ownSize[i&3] += w * w
		t.ownDiff[i&3] += (w - p) * (w - p)
		t.off[i&3] += (q - w) * (q - w)
	}
}

// addEqual takes elements of which y and z are the same to the bit, by what
// rounding them cost: its sums are float32 within a chunk. z² counts as x², from
// which it differs by what rounding costs.
func (t *totals) addEqual(s numeric.Stats) {
	t.size[0] += s.SumSq
	t.diff[0] += s.SumErrSq
	t.ownSize[0] += s.SumSq
	t.ownDiff[0] += s.SumErrSq
	t.top = max(t.top, s.MaxErr)
}

// square is (q−p)², 0 for equal infinities and for two NaNs.
func (t *totals) square(p, q float64) float64 {
	d := q - p
	if d != d && (p == q || p != p && q != q) {
		return 0
	}
	if a := math.Abs(d); a > t.top {
		t.top = a
	}
	return d * d
}

func total(s [4]float64) float64 { return (s[0] + s[2]) + (s[1] + s[3]) }
