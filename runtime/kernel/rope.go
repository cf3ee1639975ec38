package kernel

import "math"

// Rope is a table of inverse frequencies for a rotary width
// (docs/facts/families.md 2.1).
type Rope struct {
	Inv []float32 // θ^(−2j/width), j = 0 … width/2−1
}

// NewRope computes the frequencies in float32 as the reference does.
func NewRope(theta float64, width int) *Rope {
	r := &Rope{Inv: make([]float32, width/2)}
	for j := range r.Inv {
		r.Inv[j] = 1 / float32(math.Pow(theta, float64(float32(2*j)/float32(width))))
	}
	return r
}

// Angles writes cos and sin of pos·inv[j] (float32 product) for one position.
func (r *Rope) Angles(cos, sin []float32, pos int) {
	for j, f := range r.Inv {
		s, c := math.Sincos(float64(float32(pos) * f))
		cos[j], sin[j] = float32(c), float32(s)
	}
}

// AnglesAxes is Angles with a position for each axis (temporal, height, width):
// the first sections[0] frequencies turn with pos[0], the next sections[1] with
// pos[1], the rest with pos[2] (M-RoPE, docs/facts/families.md 2.2).
func (r *Rope) AnglesAxes(cos, sin []float32, pos [3]int, sections []int) {
	axis, end := 0, sections[0]
	for j, f := range r.Inv {
		for j >= end && axis < 2 {
			axis++
			end += sections[axis]
		}
		s, c := math.Sincos(float64(float32(pos[axis]) * f))
		cos[j], sin[j] = float32(c), float32(s)
	}
}

// RotateHalf rotates the pairs (x[i], x[i+n]) by angle i, n = len(cos); further
// dimensions stay (glm4_moe, docs/facts/families.md 2.2).
func RotateHalf(x, cos, sin []float32) {
	n := len(cos)
	a, b := x[:n], x[n:2*n]
	for i, c := range cos {
		s, p, q := sin[i], a[i], b[i]
		a[i] = float32(p*c) - float32(q*s)
		b[i] = float32(q*c) + float32(p*s)
	}
}

// RotateInterleaved rotates the pairs (x[2j], x[2j+1]) by angle j; further
// dimensions stay (MLA families, docs/facts/families.md 2.3).
func RotateInterleaved(x, cos, sin []float32) {
	for j, c := range cos {
		s, p, q := sin[j], x[2*j], x[2*j+1]
		x[2*j] = float32(p*c) - float32(q*s)
		x[2*j+1] = float32(p*s) + float32(q*c)
	}
}
