package calib

import (
	"context"
	"fmt"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
)

// Path is a mix's way from its scheme alone to the most that engines load: at each
// step the unit that gains most for its bytes takes a higher rung
// (docs/facts/accuracy.md 2.8).
type Path struct {
	mix    *Mix
	steps  []climb
	points []quant.MixPoint
	factor float64 // KL of all weights together, over the sum of the units'
}

// climb lifts a unit from one of its rungs to a higher one.
type climb struct{ unit, from, to int }

// Walk finds the path of a measured mix. whole is the KL of the plan itself, all
// weights together.
func (m *Mix) Walk(whole float64) *Path {
	p := &Path{mix: m, factor: 1}
	at := make([]int, len(m.Units))
	sum, bytes := 0.0, m.Plan.ResultBytes
	for i := range m.Units {
		sum += m.Units[i].Rungs[0].KL
	}
	if sum > 0 && whole > 0 {
		p.factor = whole / sum
	}
	if p.points = []quant.MixPoint{{Bytes: bytes, KL: sum}}; sum == 0 { // nothing but the whole was measured
		p.points[0].KL = whole
	}
	for {
		s, ok := m.best(at)
		if !ok {
			break
		}
		at[s.unit] = s.to
		u := &m.Units[s.unit]
		sum -= u.Rungs[s.from].KL - u.Rungs[s.to].KL
		bytes += u.Rungs[s.to].Bytes - u.Rungs[s.from].Bytes
		p.steps = append(p.steps, s)
		p.points = append(p.points, quant.MixPoint{Bytes: bytes, KL: max(0, sum), Unit: u.Name, Scheme: u.Rungs[s.to].Scheme})
	}
	if n := len(p.steps); n > 0 && m.nothing(at) { // all in the source's precision is no quantization
		p.steps, p.points = p.steps[:n-1], p.points[:n]
	}
	return p
}

// best is the step that takes most KL off for each byte; the first of equal ones.
func (m *Mix) best(at []int) (best climb, ok bool) {
	rate := 0.0
	for i := range m.Units {
		r := m.Units[i].Rungs
		for k := at[i] + 1; k < len(r); k++ {
			gain := r[at[i]].KL - r[k].KL
			if v := gain / float64(max(1, r[k].Bytes-r[at[i]].Bytes)); v > rate {
				best, rate, ok = climb{i, at[i], k}, v, true
			}
		}
	}
	return best, ok
}

// nothing reports whether no unit would be quantized.
func (m *Mix) nothing(at []int) bool {
	for i := range m.Units {
		if m.Units[i].Rungs[at[i]].Lift != layout.LiftFloat {
			return false
		}
	}
	return true
}

// Points are sizes and expected KL along the path.
func (p *Path) Points() []quant.MixPoint {
	out := make([]quant.MixPoint, len(p.points))
	for i, x := range p.points {
		x.KL *= p.factor
		out[i] = x
	}
	return out
}

// At is the plan with the first n steps taken.
func (p *Path) At(n int) (*quant.Plan, error) { return p.plan(p.steps[:n]) }

func (p *Path) plan(steps []climb) (*quant.Plan, error) {
	lifted := map[string]layout.Lift{}
	for _, s := range steps {
		u := &p.mix.Units[s.unit]
		lifted[u.Name] = u.Rungs[s.to].Lift
	}
	for name, to := range lifted {
		if to == "" {
			delete(lifted, name)
		}
	}
	return p.mix.With(lifted)
}

// UnreachableError says that no point of a path is within a budget, or as near to
// the source as asked for.
type UnreachableError struct {
	Asked   string
	Nearest quant.MixPoint
}

// Error names what was asked for and the nearest point.
func (e *UnreachableError) Error() string {
	n := e.Nearest
	return fmt.Sprintf("%s cannot be reached: the nearest point is %s (%d bytes) at a KL of %.3g", e.Asked, progress.Bytes(n.Bytes), n.Bytes, n.KL)
}

// Is makes it one of the errors about impossible plans.
func (e *UnreachableError) Is(target error) bool { return target == layout.ErrImpossible }

// Hint says what can be done.
func (e *UnreachableError) Hint() string {
	return "the table of plan has all points; another --scheme, --group-size or --engine has others"
}

// Fits reports whether the plan itself is within a number of bytes.
func (m *Mix) Fits(bytes int64) bool { return wholeSize(m.Plan) <= bytes }

// Within is the plan that is most accurate within a number of bytes, for all files
// of the result: steps that do not fit are left out.
func (p *Path) Within(bytes int64) (*quant.Plan, *quant.Mixed, error) {
	points, plan := p.Points(), p.mix.Plan
	if size := wholeSize(plan); size > bytes {
		points[0].Bytes = size
		return nil, nil, &UnreachableError{"a budget of " + progress.Bytes(bytes), points[0]}
	}
	var taken []climb
	at := make([]int, len(p.mix.Units))
	left := bytes - wholeSize(plan)
	for _, s := range p.steps {
		r := p.mix.Units[s.unit].Rungs
		if more := r[s.to].Bytes - r[at[s.unit]].Bytes; more <= left {
			left -= more
			taken, at[s.unit] = append(taken, s), s.to
		}
	}
	for {
		var err error
		plan, err = p.plan(taken)
		if err != nil {
			return nil, nil, err
		}
		if wholeSize(plan) <= bytes {
			break
		}
		taken = taken[:len(taken)-1] // names of more layers make config.json longer
	}
	return plan, p.chosen(points, taken, plan), nil
}

// chosen marks a choice among the points; one that is not on the path takes its
// place by size.
func (p *Path) chosen(points []quant.MixPoint, taken []climb, plan *quant.Plan) *quant.Mixed {
	n := len(taken)
	if n == 0 || p.steps[n-1] == taken[n-1] {
		return &quant.Mixed{Points: points, Chosen: n}
	}
	sum := 0.0
	at := make([]int, len(p.mix.Units))
	for _, s := range taken {
		at[s.unit] = s.to
	}
	for i, k := range at {
		sum += p.mix.Units[i].Rungs[k].KL
	}
	last := p.mix.Units[taken[n-1].unit]
	own := quant.MixPoint{Bytes: plan.ResultBytes, KL: sum * p.factor, Unit: last.Name, Scheme: last.Rungs[taken[n-1].to].Scheme}
	i := 0
	for i < len(points) && points[i].Bytes <= own.Bytes {
		i++
	}
	points = append(points[:i:i], append([]quant.MixPoint{own}, points[i:]...)...)
	return &quant.Mixed{Points: points, Chosen: i}
}

// wholeSize is what the files of a result take, manifest included; a little more
// for that, whose figures are not known yet.
func wholeSize(p *quant.Plan) int64 {
	manifest := int64(8 << 10)
	for i := range p.Items {
		if it := &p.Items[i]; it.Action == quant.Quantize {
			manifest += int64(len(it.Name())) + 160
		}
	}
	if p.Folds != nil {
		if text, err := p.Folds.MarshalJSON(); err == nil {
			manifest += 2 * int64(len(text))
		}
	}
	return p.ResultBytes + manifest
}

// most is how many points are measured for a target.
const most = 8

// Nearest is the smallest plan whose KL, of all its weights together, is at most
// target. measure measures one; every measurement corrects what is expected of the
// other points.
func (p *Path) Nearest(ctx context.Context, target float64, measure func(*quant.Plan) (float64, error)) (*quant.Plan, *quant.Mixed, error) {
	low, high := -1, len(p.points) // too far from the source; near enough
	var best *quant.Plan
	var kl, last float64
	for tries := 0; high-low > 1 && (tries < most || best == nil); tries++ {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		n := low + 1
		for n < high-1 && p.points[n].KL*p.factor > target {
			n++
		}
		if tries >= most { // expectations did not help
			n = len(p.points) - 1
		}
		plan, err := p.At(n)
		if err != nil {
			return nil, nil, err
		}
		x, err := measure(plan)
		if err != nil {
			return nil, nil, err
		}
		if p.points[n].KL > 0 && x > 0 {
			p.factor = x / p.points[n].KL
		}
		if last = x; x <= target {
			high, best, kl = n, plan, x
		} else {
			low = n
		}
	}
	points := p.Points()
	if best == nil {
		end := points[len(points)-1]
		end.KL = last
		return nil, nil, &UnreachableError{fmt.Sprintf("a KL of %.3g", target), end}
	}
	return best, &quant.Mixed{Points: points, Chosen: high, Measured: kl}, nil
}
