package rotation

// The leaf loops of transforms. Every result is that of stages of butterflies in
// the order of their distances, one rounding each, in plain Go and in vectors
// alike.

// walsh multiplies by the Walsh matrix of order len(x), a power of two.
func walsh(x []float32) {
	switch {
	case walshVector(x):
		stages(x, 64)
	case len(x) < 8:
		stages(x, 1)
	default:
		for i := 0; i < len(x); i += 8 {
			eight((*[8]float32)(x[i:]))
		}
		stages(x, 8)
	}
}

// eight multiplies by the Walsh matrix of order 8.
func eight(x *[8]float32) {
	a, b, c, d, e, f, g, h := x[0]+x[1], x[0]-x[1], x[2]+x[3], x[2]-x[3], x[4]+x[5], x[4]-x[5], x[6]+x[7], x[6]-x[7]
	a, b, c, d, e, f, g, h = a+c, b+d, a-c, b-d, e+g, f+h, e-g, f-h
	x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7] = a+e, b+f, c+g, d+h, a-e, b-f, c-g, d-h
}

// stages multiplies runs of w values by the Walsh matrix whose order is their
// number, three stages at a time.
func stages(x []float32, w int) {
	d := w
	for ; 8*d <= len(x); d *= 8 {
		for i := 0; i < len(x); i += 8 * d {
			butterfly8(x[i:], x[i:], d, d, d)
		}
	}
	switch len(x) / d {
	case 4:
		butterfly4(x, x, d, d, d)
	case 2:
		butterfly2(x, x, d, d, d)
	}
}

// butterfly2 writes sum and difference of two rows of n values, from apart in src,
// to two rows of dst, to apart.
func butterfly2(dst, src []float32, to, from, n int) {
	done := butterflyVector(2, dst, src, to, from, n)
	a, b, p, q := src[:n], src[from:][:n], dst[:n], dst[to:][:n]
	for i := done; i < n; i++ {
		u, v := a[i], b[i]
		p[i], q[i] = u+v, u-v
	}
}

// butterfly4 is two stages of butterflies of four rows: of the first and the
// second, the third and the fourth, then of what they leave.
func butterfly4(dst, src []float32, to, from, n int) {
	done := butterflyVector(4, dst, src, to, from, n)
	a, b, c, d := src[:n], src[from:][:n], src[2*from:][:n], src[3*from:][:n]
	p, q, r, s := dst[:n], dst[to:][:n], dst[2*to:][:n], dst[3*to:][:n]
	for i := done; i < n; i++ {
		t, u, v, w := a[i]+b[i], a[i]-b[i], c[i]+d[i], c[i]-d[i]
		p[i], q[i], r[i], s[i] = t+v, u+w, t-v, u-w
	}
}

// butterfly8 is three stages of butterflies of eight rows.
func butterfly8(dst, src []float32, to, from, n int) {
	done := butterflyVector(8, dst, src, to, from, n)
	if done == n {
		return
	}
	butterfly4(dst[done:], src[done:], to, from, n-done)
	butterfly4(dst[4*to+done:], src[4*from+done:], to, from, n-done)
	for i := range 4 {
		butterfly2(dst[i*to+done:], dst[i*to+done:], 4*to, 4*to, n-done)
	}
}

// multiply multiplies values by factors.
func multiply(x, f []float32) {
	f = f[:len(x)]
	for i := multiplyVector(x, f); i < len(x); i++ {
		x[i] *= f[i]
	}
}

// scale multiplies values by s.
func scale(x []float32, s float32) {
	for i := scaleVector(x, s); i < len(x); i++ {
		x[i] *= s
	}
}

// mix combines the k parts of x, of n values each: sums and differences of
// neighbouring parts first, which every row needs one of.
func (h *Hadamard) mix(x []float32, n int) {
	if h.small == nil {
		return
	}
	const block = 64
	done := h.mixVector(x, n)
	if done == n {
		return
	}
	pairs, out := make([]float32, h.k*block), make([]float32, h.k*block)
	for at := done; at < n; at += block {
		width := min(block, n-at)
		for a := 0; a < h.k; a += 2 {
			p, q := x[a*n+at:][:width], x[(a+1)*n+at:][:width]
			sum, diff := pairs[a*block:][:width], pairs[(a+1)*block:][:width]
			for i, v := range p {
				sum[i], diff[i] = v+q[i], v-q[i]
			}
		}
		for r, row := range h.small {
			h.row(out[r*block:][:width], pairs, row)
		}
		for r := range h.k {
			copy(x[r*n+at:][:width], out[r*block:])
		}
	}
}

// row writes a row of the small matrix times the parts, from their sums and
// differences: two pairs at a time.
func (h *Hadamard) row(to, pairs, signs []float32) {
	block := len(pairs) / h.k
	of := func(a int) []float32 {
		if signs[a] == signs[a+1] {
			return pairs[a*block:][:len(to)]
		}
		return pairs[(a+1)*block:][:len(to)]
	}
	for a := 0; a < h.k; a += 4 {
		p, s := of(a), signs[a]
		if a+2 >= h.k {
			if a == 0 {
				clear(to)
			}
			for i, v := range p {
				to[i] += s * v
			}
			continue
		}
		q, t := of(a+2), signs[a+2]
		if a == 0 {
			for i, v := range p {
				to[i] = s*v + t*q[i]
			}
			continue
		}
		for i, v := range p {
			to[i] += s*v + t*q[i]
		}
	}
}

// places are the offsets in bytes of what the rows of the small matrix add up,
// where sums, sums with the other sign, differences and those with the other
// sign of sixteen columns of each pair of parts follow one another.
func places(small [][]float32) []int32 {
	var out []int32
	for _, row := range small {
		for a := 0; a < len(row); a += 2 {
			at := int32(a/2) * 256
			if row[a] != row[a+1] {
				at += 128
			}
			if row[a] < 0 {
				at += 64
			}
			out = append(out, at)
		}
	}
	return out
}
