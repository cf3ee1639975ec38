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
	Unused     Figure `json:"unused"` // share of the scales of which no code passes half of the range
	// Column is the largest share of a column's codes that are the nearest: 1 in
	// the column that a method begins with which passes errors on to the others.
	Column Figure `json:"column"`
	Step   int    `json:"step"` // every integer code is a multiple of this; 0 if codes are no integers
}

// gridSample is how many pieces of a weight there are to one that is looked at.
const gridSample = 16

// gridSums add up a Grid.
type gridSums struct {
	size, err, near, cross, own float64 // Σa², Σ(b−a)², Σ(near−a)², Σab, Σb²
	toward                      float64
	inside                      int // elements that toward counts
	scales, unused              int
	step                        int
	ints                        bool
	seen                        bool
	nearest                     []int // codes of a column that are the nearest
	rows                        int
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
	sc := m.ScaleCols()
	if g.nearest == nil {
		g.nearest = make([]int, m.Cols)
	}
	g.rows += m.Rows
	for r := range m.Rows {
		for c0 := 0; c0 < m.Cols; c0 += m.BlockCols {
			at := r/m.BlockRows*sc + c0/m.BlockCols
			lo, hi := r*m.Cols+c0, r*m.Cols+min(c0+m.BlockCols, m.Cols)
			g.run(x[lo:hi], y[lo:hi], codes[lo:hi], m.Scales[at], &top[at], values, g.nearest[c0:])
		}
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

// run takes elements that share a scale.
func (g *gridSums) run(x, y, codes []float32, scale float32, top *float32, values []float32, nearest []int) {
	for i, a := range x {
		p, q, k := float64(a), float64(y[i]), codes[i]
		g.size += p * p
		g.err += (q - p) * (q - p)
		g.cross += p * q
		g.own += q * q
		*top = max(*top, float32(math.Abs(float64(k))))
		if g.ints && g.step != 1 {
			g.step = gcd(g.step, int(math.Abs(float64(k))))
		}
		if scale == 0 {
			g.near += p * p
			nearest[i]++
			continue
		}
		u := p / float64(scale)
		hi, _ := slices.BinarySearch(values, float32(u))
		if hi == 0 || hi == len(values) { // outside of the grid
			edge := float64(values[min(hi, len(values)-1)]) * float64(scale)
			g.near += (edge - p) * (edge - p)
			nearest[i]++
			continue
		}
		below, above := float64(values[hi-1]), float64(values[hi])
		off := min(u-below, above-u) * float64(scale)
		g.near += off * off
		if math.Abs(q-p) <= 1.01*off+1e-4*math.Abs(float64(scale))*(above-below) {
			nearest[i]++
		}
		if a != 0 {
			g.toward += math.Copysign(1, p) * (p - q) / math.Abs(float64(scale)) / (above - below)
			g.inside++
		}
	}
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
	}
	if g.scales > 0 {
		out.Unused = Figure(float64(g.unused) / float64(g.scales))
	}
	if g.ints {
		out.Step = g.step
	}
	if g.rows > 0 {
		out.Column = Figure(float64(slices.Max(g.nearest)) / float64(g.rows))
	}
	return out
}
