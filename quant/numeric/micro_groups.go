package numeric

import "math"

const (
	// besides is how many groups lie side by side for the vector twins of the
	// loops over small groups.
	besides = 8
	// batch is how many weights a call of them takes at most: with their
	// magnitudes they stay in the innermost cache.
	batch = 2048
	// maxMicro is the size of the largest small group, minMicro of the smallest.
	maxMicro, minMicro = 32, 16
)

// groups are small groups, eight side by side and then the next eight, and what
// is found out about them.
type groups struct {
	table     [256][4]float32 // of scale codes: the value, its inverse, and what that lacks
	weights   [batch]float32
	turned    [2 * batch]float32 // and magnitudes
	out       [besides * maxMicro]byte
	top       [batch / minMicro]uint32 // bits of the largest magnitudes
	sq        [batch / minMicro]float32
	codes     [batch / minMicro]int32 // of the scales
	first, er [batch / minMicro]float32
	worst     [batch / minMicro]uint32 // bits of the largest errors
	size      int
	eights    int
}

// begin sets the table for a rule and tells whether the twins take it: they do
// not divide by zero, nor by what has no inverse in two parts.
func (g *groups) begin(s *Spec) bool {
	if !groupTwins() {
		return false
	}
	for c := range g.table {
		g.table[c] = parts(s.LocalScale(byte(c)))
	}
	g.size = s.BlockCols
	if s.Rule == NVFP4 {
		return g.value(1) > 0x1p-100 && g.value(0x7e) < 0x1p100
	}
	return g.value(1) > 0
}

// parts are a scale and two numbers that make up its inverse: the nearest one,
// and what is nearest to the rest.
func parts(s float32) [4]float32 {
	inverse := 1 / s
	return [4]float32{s, inverse, float32((1 - float64(inverse)*float64(s)) / float64(s))}
}

// value is what a scale code stands for.
func (g *groups) value(code byte) float32 { return g.table[code][0] }

// measure turns n groups of weights from group at on and chooses the scales of
// the formula. Fewer than eight are filled up with zeros. It returns the bits of
// the largest magnitude.
func (g *groups) measure(s *Spec, w *weights, at, n int) (top uint32) {
	g.eights = max(n/besides, 1)
	if n >= besides && w.BF16 {
		g.turnBF16(w.raw[2*at*g.size:])
	} else {
		g.turn(g.floats(w, at, n))
	}
	g.formula(s)
	for _, m := range g.top[:n] {
		top = max(top, m)
	}
	return top
}

// floats are n groups from group at on as float32, at least eight.
func (g *groups) floats(w *weights, at, n int) []float32 {
	if w.inPlace() && n >= besides {
		return w.floats[at*g.size:]
	}
	out := g.weights[:max(n, besides)*g.size]
	if w.inPlace() {
		copy(out, w.floats[at*g.size:][:n*g.size])
	} else {
		w.decode(out[:n*g.size], at*g.size)
	}
	clear(out[n*g.size:])
	return out
}

// next is how many of the groups that are left the twins take at once: whole
// eights, or what is left of one.
func (g *groups) next(left int) int {
	if left > besides {
		left &^= besides - 1
	}
	return min(left, batch/g.size)
}

// microTile quantises all rows by the vector twins, as many groups at a time as
// they take, whatever rows they belong to: groups fill rows, so that they lie one
// after the other. The sums are those of microRow.
func (x *Scratch) microTile(st *Stats) (finite bool) {
	m, g := &x.m, &x.groups
	total := len(m.Scales)
	bytes := m.BlockCols * m.Code.Bits() / 8
	sums := rowSums{left: m.ScaleCols()}
	for at := 0; at < total; {
		n := g.next(total - at)
		if g.measure(&x.spec, &x.src, at, n) >= infBits {
			return false
		}
		first := g.er[:n]
		if x.spec.Arith == Best {
			g.search(m.Code)
			first = g.first[:n]
		}
		if out := m.Codes[at*bytes:]; n >= besides {
			g.encode(out, m.Code)
		} else {
			g.encode(g.out[:], m.Code)
			copy(out, g.out[:n*bytes])
		}
		codes, scales := m.ScaleCodes[at:][:n], m.Scales[at:][:n]
		for i, c := range g.codes[:n] {
			codes[i], scales[i] = byte(c), g.value(byte(c))
		}
		sums.add(g, first, m.ScaleCols(), st)
		at += n
	}
	return true
}

// rowSums adds up what groups cost, row by row.
type rowSums struct {
	sumSq, errSq, plain float64
	worst               uint32
	left                int // groups of the row
}

// add takes the groups with these first errors; a row has so many.
func (r *rowSums) add(g *groups, first []float32, row int, st *Stats) {
	for i := 0; i < len(first); {
		n := min(r.left, len(first)-i)
		sumSq, errSq, plain, worst := r.sumSq, r.errSq, r.plain, r.worst
		sq, er, w := g.sq[i:][:n], g.er[i:][:n], g.worst[i:][:n]
		for k, f := range first[i:][:n] {
			sumSq += float64(sq[k])
			errSq += float64(er[k])
			plain += float64(f)
			worst = max(worst, w[k])
		}
		*r = rowSums{sumSq, errSq, plain, worst, r.left - n}
		if i += n; r.left == 0 {
			st.addRun(runError{sumSq, errSq, math.Float32frombits(worst)}, plain)
			*r = rowSums{left: row}
		}
	}
}

// searched returns the squared error of groups of NVFP4 with searched scales,
// after begin.
func (g *groups) searched(s *Spec, w []float32) (sum float64) {
	src := weights{floats: w}
	for at, total := 0, len(w)/g.size; at < total; {
		n := g.next(total - at)
		g.measure(s, &src, at, n)
		g.search(E2M1)
		for _, e := range g.er[:n] {
			sum += float64(e)
		}
		at += n
	}
	return sum
}
