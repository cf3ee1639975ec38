package numeric

import "math"

// besides is how many groups lie side by side for the vector twins of the loops
// over small groups.
const besides = 8

// maxMicro is the size of the largest small group.
const maxMicro = 32

// eight is eight small groups side by side, and what is found out about them.
type eight struct {
	values    [256]float32 // of scale codes
	weights   [besides * maxMicro]float32
	turned    [besides * maxMicro]float32
	out       [besides * maxMicro]byte
	top       [besides]uint32 // bits of the largest magnitudes
	sq        [besides]float32
	codes     [besides]int32 // of the scales
	first, er [besides]float32
	worst     [besides]uint32 // bits of the largest errors
	size      int
}

// begin sets the table for a rule and tells whether the twins take it: they do
// not divide by zero.
func (g *eight) begin(s *Spec) bool {
	if !groupTwins() {
		return false
	}
	for c := range g.values {
		g.values[c] = s.LocalScale(byte(c))
	}
	g.size = s.BlockCols
	return g.values[1] > 0
}

// measure turns groups and chooses the scales of the formula. Fewer than eight
// are filled up with zeros. It returns the bits of the largest magnitude.
func (g *eight) measure(s *Spec, w []float32) (top uint32) {
	if n := besides * g.size; len(w) < n {
		clear(g.weights[copy(g.weights[:], w):n])
		w = g.weights[:n]
	}
	g.turn(w)
	g.formula(s)
	for _, m := range g.top {
		top = max(top, m)
	}
	return top
}

// microTile quantises all rows by the vector twins, eight groups at a time
// whatever rows they belong to: groups fill rows, so that they lie one after the
// other. The sums are those of microRow.
func (x *Scratch) microTile(st *Stats) (finite bool) {
	m, g := &x.m, &x.eight
	row, total := m.ScaleCols(), len(m.Scales)
	bytes := m.BlockCols * m.Code.Bits() / 8
	var sumSq, errSq, plain float64
	var worst uint32
	left := row
	for at := 0; at < total; at += besides {
		n := min(besides, total-at)
		if g.measure(&x.spec, x.take(at*m.BlockCols, n*m.BlockCols)) >= infBits {
			return false
		}
		first := &g.er
		if x.spec.Arith == Best {
			g.search(m.Code)
			first = &g.first
		}
		if out := m.Codes[at*bytes:]; n == besides {
			g.encode(out, m.Code)
		} else {
			g.encode(g.out[:], m.Code)
			copy(out, g.out[:n*bytes])
		}
		codes, scales := m.ScaleCodes[at:][:n], m.Scales[at:][:n]
		for i := range scales {
			code := byte(g.codes[i])
			codes[i], scales[i] = code, g.values[code]
			sumSq += float64(g.sq[i])
			errSq += float64(g.er[i])
			plain += float64(first[i])
			worst = max(worst, g.worst[i])
			if left--; left == 0 {
				st.addRun(runError{sumSq, errSq, math.Float32frombits(worst)}, plain)
				sumSq, errSq, plain, worst, left = 0, 0, 0, 0, row
			}
		}
	}
	return true
}

// searched returns the squared error of groups of NVFP4 with searched scales,
// after begin.
func (g *eight) searched(s *Spec, w []float32) (sum float64) {
	for ; len(w) > 0; w = w[min(len(w), besides*g.size):] {
		n := min(besides*g.size, len(w))
		g.measure(s, w[:n])
		g.search(E2M1)
		for i := range n / g.size {
			sum += float64(g.er[i])
		}
	}
	return sum
}
