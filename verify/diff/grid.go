package diff

import (
	"math"
	"slices"

	"github.com/glmconv/glmconv/quant/numeric"
)

// Grid says how B uses the numbers that its codes and scales can stand for,
// judged by A: what is left to say of a weight whose rounding is not known. It
// comes from a sample of the weight's rows.
type Grid struct {
	Error   Figure `json:"relative_rms"`         // √(Σ(b−a)²/Σa²) of the sample
	Nearest Figure `json:"nearest_relative_rms"` // the same of the codes nearest to A, with the scales as stored
	// Slope is Σab/Σb²: 1 where b's values are neither too large nor too small
	// as a whole. Rounding lowers it by its relative square error at most.
	Slope Figure `json:"slope"`
	// TowardZero is by how much of a step of its grid b is smaller than a, on
	// average: 0 for rounding, ½ where the rest was cut off.
	TowardZero Figure `json:"toward_zero"`
	// Above is by how much of a step b is larger than a, on average: 0 for rounding,
	// −½ where all was rounded down.
	Above  Figure `json:"above"`
	Unused Figure `json:"unused"` // share of the scales of which no code passes half of the range
	// Column is the largest share of a column's codes that are the nearest: 1 in
	// the column that a method begins with which passes errors on to the others.
	Column Figure `json:"column"`
	Step   int    `json:"step"` // every integer code is a multiple of this; 0 if codes are no integers
	// Off is the share of codes that are not the nearest ones, Beyond how far past
	// the middle between two codes the source's values lie below them, on average
	// in steps of the grid, and Together whether they go together over the columns: a
	// standard normal number if they are noise, large if they were learnt.
	Off      Figure `json:"off"`
	Beyond   Figure `json:"beyond"`
	Together Figure `json:"together"`
	// Far is the share of them of which the source's value is more than a step
	// away, and Heavier says whether large values have more of them: 0 if they are
	// as frequent everywhere, 1 if as much as noise in proportion to the values
	// makes them; 0 too where a grid has such steps itself.
	Far     Figure `json:"far"`
	Heavier Figure `json:"heavier"`
}

// leastSpread is how much magnitudes in steps must vary (their variance over
// the square of their mean) to show what is in proportion to them: those of FP8
// hardly do.
const leastSpread = 0.08

// gridSample is how many pieces of a weight there are to one that is looked at.
const gridSample = 16

// gridSums add up a Grid.
type gridSums struct {
	size, err, near, cross, own float64 // Σa², Σ(b−a)², Σ(near−a)², Σab, Σb²
	toward, above               float64
	inside                      int // elements that both count
	scales, unused              int
	step                        int
	ints                        bool
	seen                        bool
	nearest                     []int // codes of a column that are the nearest
	rows                        int
	off                         int     // codes that are not
	far                         int     // of these, more than a step away
	counted, offCounted         int     // within the grid
	beyond                      float64 // how far past the middle their values are, in steps
	steps, steps2, offSteps     float64 // Σ and Σ² of magnitudes in steps, and Σ of those of codes that are off
	pairs                       *together
}

// gridValues are the numbers that codes of a format stand for, in order.
func gridValues(c numeric.Code) []float32 {
	n := 1 << c.Bits()
	m := numeric.Matrix{Code: c, Rows: 1, Cols: n, BlockRows: 1, BlockCols: n, Codes: make([]byte, n), Scales: []float32{1}}
	for i := range n {
		m.Codes[i] = byte(i)
	}
	if c.Bits() == 4 {
		m.Codes = m.Codes[:n/2]
		for i := range m.Codes {
			m.Codes[i] = byte(2*i) | byte(2*i+1)<<4
		}
	}
	v := make([]float32, n)
	m.Dequant(v, 0, 1)
	v = slices.DeleteFunc(v, func(x float32) bool { return x != x })
	slices.Sort(v)
	return slices.Compact(v)
}

// add takes rows of A, what B's codes stand for, and the codes themselves.
func (g *gridSums) add(x, y []float32, m *numeric.Matrix, values []float32) {
	g.seen = true
	g.ints = m.Code == numeric.Int8 || m.Code == numeric.Int4
	plain := *m
	plain.Scales = make([]float32, len(m.Scales))
	for i := range plain.Scales {
		plain.Scales[i] = 1
	}
	codes := make([]float32, len(x)) // what the codes stand for without scales
	plain.Dequant(codes, 0, m.Rows)
	top := make([]float32, len(m.Scales)) // of the codes below each scale
	if g.nearest == nil {
		g.nearest = make([]int, m.Cols)
		g.pairs.start(m.Cols)
	}
	g.rows += m.Rows
	sc := m.ScaleCols()
	for r := range m.Rows {
		for c := range m.Cols {
			at := r / m.BlockRows * sc
			if m.Order != nil {
				at += int(m.Order[c])
			} else {
				at += c / m.BlockCols
			}
			zero := float32(0)
			if m.Zeros != nil {
				zero = float32(m.Zeros[at])
			}
			i := r*m.Cols + c
			g.element(c, float64(x[i]), float64(y[i]), codes[i], zero, m.Scales[at], &top[at], values)
		}
		g.pairs.row()
	}
	if m.Zeros != nil {
		return // codes of one sign only may be right
	}
	half := values[len(values)-1] / 2
	if g.ints {
		half++ // of one bit less, codes reach 64 and 4 by rounding
	}
	for i, t := range top {
		if t > 0 && m.Scales[i] != 0 {
			g.scales++
			if t < half {
				g.unused++
			}
		}
	}
}

// element takes a value p of A, what B has for it, and its code less the zero
// point.
func (g *gridSums) element(col int, p, q float64, code, zero, scale float32, top *float32, values []float32) {
	g.size += p * p
	g.err += (q - p) * (q - p)
	g.cross += p * q
	g.own += q * q
	*top = max(*top, float32(math.Abs(float64(code))))
	if g.ints && g.step != 1 && zero == 0 {
		g.step = gcd(g.step, int(math.Abs(float64(code))))
	}
	if scale == 0 {
		g.near += p * p
		g.nearest[col]++
		return
	}
	at, _ := slices.BinarySearch(values, code+zero)
	u := p/float64(scale) + float64(zero)
	hi, _ := slices.BinarySearch(values, float32(u))
	if hi == 0 || hi == len(values) { // outside of the grid
		hi = min(hi, len(values)-1)
		edge := (float64(values[hi]) - float64(zero)) * float64(scale)
		g.near += (edge - p) * (edge - p)
		if at == hi {
			g.nearest[col]++
		} else {
			g.miss(col, at-hi, math.Abs(float64(at-hi))-0.5)
		}
		return
	}
	below, above := float64(values[hi-1]), float64(values[hi])
	step := above - below
	near := hi
	if u-below < above-u {
		near--
	}
	off := math.Abs(float64(values[near])-u) * math.Abs(float64(scale))
	g.near += off * off
	size := math.Abs(u-float64(zero)) / step
	g.counted++
	g.steps += size
	g.steps2 += size * size
	if math.Abs(q-p) <= 1.01*off+1e-4*math.Abs(float64(scale))*step {
		g.nearest[col]++
	} else {
		past := math.Abs(float64(at - near))
		if past < 2 {
			past = math.Abs(float64(values[min(at, len(values)-1)])-u) / step
		}
		g.miss(col, at-near, past-0.5)
		g.offCounted++
		g.offSteps += size
		if past > 1.02 {
			g.far++
		}
	}
	if p != 0 {
		g.toward += math.Copysign(1, p) * (p - q) / math.Abs(float64(scale)) / step
		g.above += (q - p) / float64(scale) / step // in the direction of codes
		g.inside++
	}
}

// miss takes a code that is some steps off the nearest one.
func (g *gridSums) miss(col, steps int, past float64) {
	g.off++
	g.beyond += past
	g.pairs.note(col, steps)
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// grid condenses the sums; nil where nothing was looked at.
func (g *gridSums) grid() *Grid {
	if !g.seen {
		return nil
	}
	out := &Grid{Error: root(g.err, g.size), Nearest: root(g.near, g.size), Slope: 1}
	if g.own > 0 {
		out.Slope = Figure(g.cross / g.own)
	}
	if g.inside > 0 {
		out.TowardZero = Figure(g.toward / float64(g.inside))
		out.Above = Figure(g.above / float64(g.inside))
	}
	if g.scales > 0 {
		out.Unused = Figure(float64(g.unused) / float64(g.scales))
	}
	if g.ints {
		out.Step = g.step
	}
	if g.rows > 0 {
		out.Column = Figure(float64(slices.Max(g.nearest)) / float64(g.rows))
		out.Off = Figure(float64(g.off) / float64(g.rows*len(g.nearest)))
		out.Together = Figure(g.pairs.deviations())
	}
	if g.off > 0 {
		out.Beyond = Figure(g.beyond / float64(g.off))
		out.Far = Figure(float64(g.far) / float64(g.off))
		mean := g.steps / float64(max(g.counted, 1))
		spread := g.steps2/float64(max(g.counted, 1))/(mean*mean) - 1
		if spread > leastSpread {
			out.Heavier = Figure((g.offSteps/float64(max(g.offCounted, 1))/mean - 1) / spread)
		}
	}
	return out
}
