package verify

import (
	"fmt"
	"math"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/verify/diff"
)

// Limits for weights whose rounding is not known. Codes that are learnt from
// data are not the nearest ones, and their errors are larger, but they are no
// error in one direction: each of these says something that no method does.
const (
	// farthest is how many times as far from the source as the nearest codes a
	// weight may be. AutoRound moves codes by one step at most, GPTQ and AWQ
	// lie at 1.1 to 1.6; codes that are cut off instead of rounded at 2.
	// farthestLearnt is the same where its own codes show that they were learnt:
	// with target correction (docs/facts/accuracy.md 2.4) they follow another
	// weight than the source's, and lie at up to 3.
	farthest, farthestLearnt = 1.8, 4
	// elsewhere is how far from the source, relative to it, a weight of 8 bits may
	// be that follows another weight: that distance knows nothing of the step, and
	// is large where inputs lie in few directions (0.6 in an attention output of
	// 32 columns); weights that have nothing to do with each other are at 1.4.
	elsewhere = 1
	// slantedElsewhere is slanted for such a weight.
	slantedElsewhere = 0.02
	// slanted is how far the slope may be outside of what errors explain.
	slanted = 0.01
	// shortened is how much of a step all values may be too small on average,
	// shortenedLearnt the same where codes show that they were learnt: what is
	// passed on from column to column leaves up to 0.3 in small matrices, values
	// that are cut off 0.5.
	shortened, shortenedLearnt = 0.2, 0.4
	// farFP8 is the same for FP8 codes of which no column is that of the nearest:
	// nobody learns them otherwise than by passing errors on from column to
	// column, which leaves the first one alone.
	farFP8 = 1.1
	// clipped is how far the slope may be from 1 where all codes are the nearest
	// ones: values beyond the largest code are cut off. Scales of MX groups that
	// are rounded down (OCP, AutoRound) leave 0.02.
	clipped = 0.05
	// idle is the share of scales that may use less than half of their range.
	idle = 0.5
)

// retargeted reports whether a weight's codes of 8 bits show that they follow
// another weight than the source's, as target correction has them do: they are
// off together over the columns, as noise is not, farther than codes that were
// cut off or rounded to one side, and below small values as often as below large
// ones, other than with scales that are wrong.
func retargeted(m diff.Module) bool {
	g := m.Grid
	if m.B.Weight.Bits != 8 || float64(g.Together) < learnt || float64(g.Heavier) > heavy {
		return false
	}
	if m.B.Weight.Type == format.Float { // what is cut off is less than a step away
		return float64(g.Far) > farOff
	}
	return float64(g.Error) > farthestLearnt*float64(g.Nearest)
}

// farthestOf is how far from the source a weight without an oracle may be.
func farthestOf(m diff.Module) float64 {
	near := float64(m.Grid.Nearest)
	switch {
	case retargeted(m):
		return max(farthestLearnt*near, elsewhere)
	case float64(m.Grid.Together) >= learnt:
		return farthestLearnt * near
	}
	return farthest * near
}

// judgeGrid looks at how a weight without an oracle uses its codes and scales;
// together says that the codes of its kind show that they were learnt, which a
// small matrix alone may not.
func (r *Result) judgeGrid(m diff.Module, together bool) {
	g := m.Grid
	fail := func(format string, args ...any) {
		r.fail("oracle", m.Name, fmt.Sprintf("as %s %s", m.B, fmt.Sprintf(format, args...)))
	}
	// An error that has nothing to do with the values adds its square to Σb² and
	// nothing to Σab; scales that were fitted make the slope 1.
	together = together || float64(g.Together) >= learnt
	slack, short := slanted, shortened
	if retargeted(m) {
		slack = slantedElsewhere
	}
	float8 := m.B.Weight.Type == format.Float && m.B.Weight.Bits == 8
	switch {
	case together && float8: // their steps are as small as the values: an average over them says little
		short = math.Inf(1)
	case together:
		short = shortenedLearnt
	}
	least := 1/(1+float64(g.Error)*float64(g.Error)) - slack
	switch slope := float64(g.Slope); {
	case nearest(m) && math.Abs(slope-1) <= clipped:
		// codes are right for the scales, so that scales were not changed after them
	case (slope < least || slope > 1+slack) && slope != 0:
		fail("its values are %.3g times the source's on the whole: scales are wrong", 1/slope)
	case retargeted(m): // directions are those of the other weight
	case math.Abs(float64(g.TowardZero)) > short:
		fail("its values are %.2g of a step too %s on average: codes are cut off and not rounded", math.Abs(float64(g.TowardZero)),
			map[bool]string{true: "small", false: "large"}[g.TowardZero > 0])
	case math.Abs(float64(g.Above)) > short:
		fail("its codes are %.2g of a step too %s on average: they are rounded to one side", math.Abs(float64(g.Above)),
			map[bool]string{true: "high", false: "low"}[g.Above > 0])
	}
	if float8 && float64(g.Column) < 0.95 && !together && float64(g.Error) > farFP8*float64(g.Nearest) {
		fail("its error is %.3g times that of the nearest codes in every column: noise, or another model's weights", float64(g.Error)/float64(g.Nearest))
	}
	if float64(g.Unused) > idle {
		fail("%.0f %% of its scales use less than half of the codes' range: bits are wasted", 100*float64(g.Unused))
	}
	if g.Step > 1 {
		fail("every code is a multiple of %d: bits are wasted", g.Step)
	}
}
