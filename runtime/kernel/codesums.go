package kernel

// CodeSums returns Σhwq and Σhq² over the codes q that w [n] has under each of eight
// scales, whose reciprocals inv holds: rounded to even, within lo … hi, which lie
// within ±2^21. h [n] weighs the columns. Each product and sum is rounded to float32,
// in order.
func CodeSums(w, h []float32, inv *[8]float32, lo, hi float32) (wq, qq [8]float32) {
	h = h[:len(w)]
	if codeSumsVector(&wq, &qq, inv, w, h, lo, hi) {
		return wq, qq
	}
	const magic = 3 << 22
	for k, r := range inv {
		var a, b float32
		for i, v := range w {
			q := min(max(float32(v*r), lo), hi)
			q = float32(q+magic) - magic
			p := float32(h[i] * q)
			a += float32(p * v)
			b += float32(p * q)
		}
		wq[k], qq[k] = a, b
	}
	return wq, qq
}
