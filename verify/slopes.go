package verify

import (
	"cmp"
	"math"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
)

// regression are sums over values of the source, x, and of the result, y.
type regression struct{ xx, xy, yy, x4 float64 }

func (s *regression) add(x, y float64) {
	xx := x * x
	s.xx, s.xy, s.yy, s.x4 = s.xx+xx, s.xy+x*y, s.yy+y*y, s.x4+xx*xx
}

func (s *regression) join(o regression) {
	s.xx, s.xy, s.yy, s.x4 = s.xx+o.xx, s.xy+o.xy, s.yy+o.yy, s.x4+o.x4
}

// clearSlope is how many times as large as what it leaves a slope must be: values below
// half a step are all rounded to one side, and their slope says nothing.
const clearSlope = 2

// slope returns the logarithm of the slope of y on x, and its standard error;
// infinite where there is none. A few large values count as a few: steps are as
// large as the largest value of their group.
func (s *regression) slope() (log, err float64) {
	n := s.xx * s.xx / s.x4
	if !(s.xx > 0) || !(s.xy > 0) || !(n > 2) {
		return 0, math.Inf(1)
	}
	rest := max(s.yy-s.xy*s.xy/s.xx, 0)
	signal := s.xy * s.xy / s.xx
	if signal < clearSlope*clearSlope*rest {
		return 0, math.Inf(1)
	}
	return math.Log(s.xy / s.xx), math.Sqrt(rest / (n - 1) / signal)
}

// coarse is the least standard error of a slope of values of 4 bits: scales below
// the largest value of a group, which lose least, shorten it.
const coarse = 0.02

// tally are the regressions of a tensor's rows and columns.
type tally struct {
	rows, cols []regression
	least      float64 // standard error of a slope
}

// slopes are those of a tensor by channel, in the logarithm: 0 where the result is
// as expected.
type slopes struct {
	name     string
	log, err []float64
	spread   float64 // median distance from 0
	clipped  bool    // values of 4 bits, whose largest may have been cut off
}

// newSlopes joins the regressions of rows or columns of one channel; least is the
// least error that they can have.
func newSlopes(name string, list []regression, least float64, channel func(int) int, channels int) *slopes {
	all := make([]regression, channels)
	for i := range list {
		if c := channel(i); c >= 0 {
			all[c].join(list[i])
		}
	}
	x := &slopes{name: name, log: make([]float64, channels), err: make([]float64, channels), clipped: least >= coarse}
	for c := range all {
		x.log[c], x.err[c] = all[c].slope()
		x.err[c] = max(x.err[c], least)
	}
	x.spreadOf()
	return x
}

// center takes a slope that all channels share away, if it is as small as one of
// scales that are rounded down.
func (x *slopes) center() {
	var known []float64
	for c, v := range x.log {
		if !math.IsInf(x.err[c], 1) {
			known = append(known, v)
		}
	}
	if m := median(known); math.Abs(m) < 1.5*offBy {
		for c := range x.log {
			x.log[c] -= m
		}
	}
	x.spreadOf()
}

func (x *slopes) spreadOf() {
	var far []float64
	for c, v := range x.log {
		if !math.IsInf(x.err[c], 1) {
			far = append(far, math.Abs(v))
		}
	}
	x.spread = median(far)
}

// shortest is the logarithm of what remains of a column whose values lead their
// groups where a tool cuts the largest values off (AWQ: down to a half), since
// those that lead are cut and the others are not.
const shortest = -0.35

// off reports whether a channel is farther from what is expected than errors and
// the other channels explain.
func (x *slopes) off(c int) bool {
	if x.clipped && x.log[c] < 0 && x.log[c] > shortest {
		return false
	}
	return !math.IsInf(x.err[c], 1) && math.Abs(x.log[c]) > max(offBy, 6*x.err[c], 8*x.spread)
}

// following says what a tensor's columns do where factors are other than 1.
type following int

const (
	unknown following = iota
	follows           // they have the factors
	stays             // they are the source's
)

// votes counts the channels whose factor is clear in which a tensor follows it, and
// those in which it is the source's.
func (x *slopes) votes(t []float64) (yes, no int) {
	for c, f := range t {
		by := math.Log(f)
		if math.Abs(by) < 2*max(offBy, 3*x.err[c]) { // also where the error is infinite
			continue
		}
		switch v := x.log[c]; {
		case math.Abs(v) < math.Abs(by)/2:
			yes++
		case math.Abs(v+by) < math.Abs(by)/2:
			no++
		}
	}
	return yes, no
}

func (x *slopes) follows(t []float64) following {
	switch yes, no := x.votes(t); {
	case no > yes:
		return stays
	case yes > 0:
		return follows
	}
	return unknown
}

// followed reports whether tensors follow factors in most channels, and no more of
// them do not.
func followed(list []*slopes, t []float64) bool {
	yes, no := 0, 0
	for _, x := range list {
		switch x.follows(t) {
		case follows:
			yes++
		case stays:
			no++
		}
	}
	return yes > 0 && yes >= no
}

// mean weighs two estimates by their errors, and returns that of the result; 0 where
// there is none.
func mean(a, errA, b, errB float64) (v, err float64) {
	x, y := 1/max(errA*errA, 1e-12), 1/max(errB*errB, 1e-12)
	if x+y == 0 {
		return 0, math.Inf(1)
	}
	return (a*x + b*y) / (x + y), 1 / math.Sqrt(x+y)
}

// snap makes powers of two of factors that all are next to one; err are their errors
// in the logarithm.
func snap(t, err []float64) {
	for c, v := range t {
		l := math.Log2(v)
		if math.Abs(l-math.Round(l)) > max(exactBy, 4*err[c]) {
			return
		}
	}
	for c, v := range t {
		t[c] = math.Exp2(math.Round(math.Log2(v)))
	}
}

func compareFailed(a, b Failed) int {
	return cmp.Or(strings.Compare(a.Where, b.Where), strings.Compare(a.Detail, b.Detail))
}

// sums are the regressions of a result's rows and columns on the source's, times
// factors of rows and columns (nil: 1); nil where one of them does not have the
// tensor, or the source has codes.
func (p *pair) sums(t *glm.Tensor, byRow, byCol []float64) (*tally, error) {
	it, ok := p.entries[t.Name]
	if !ok || it.Source.DType.Bits() < 16 {
		return nil, nil
	}
	st, err := layout.Lookup(p.b, t.Module, layout.Hints{})
	rows, cols := int(t.Shape[0]), int(t.Shape[1])
	if err != nil || st.Rows != rows || st.Cols != cols {
		return nil, nil //nolint:nilerr // said where all of it is compared
	}
	out := &tally{rows: make([]regression, rows), cols: make([]regression, cols)}
	if st.Quantized() && st.Quant.Bits <= 4 {
		out.least = coarse
	}
	expected := make([]float64, cols)
	return out, p.eachRow(it, &st, func(r int, x, y []float32) {
		by := 1.0
		if byRow != nil {
			by = byRow[r]
		}
		for c := range expected {
			expected[c] = by
			if byCol != nil {
				expected[c] *= byCol[c]
			}
		}
		for c, v := range x {
			a, b := float64(v)*expected[c], float64(y[c])
			out.rows[r].add(a, b)
			out.cols[c].add(a, b)
		}
	})
}
