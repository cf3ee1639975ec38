package endpoint

import (
	"context"
	"math"
	"slices"

	"github.com/glmconv/glmconv/verify/stats"
)

// early are the places of a sequence that are listed apart: without context
// they say little.
const early = 4

// least is what is taken for the probability of a rest that a server leaves
// nothing for.
const least = 1e-7

// near is the margin in nats below which two most likely tokens are a tie.
const near = 0.3

// coarse compares p with q on the ids that q names and the rest put together,
// in both directions; tail is what of p is in the rest
// (docs/facts/serving.md 2). All three are NaN where p has one.
func coarse(p map[int]float64, q map[int]float64) (kl, reverse, tail float64) {
	var sumP, sumQ float64
	for id, lq := range q {
		lp := p[id]
		a, b := math.Exp(lp), math.Exp(lq)
		sumP, sumQ = sumP+a, sumQ+b
		if a > 0 {
			kl += a * (lp - math.Max(lq, -9999))
		}
		if b > 0 {
			reverse += b * (lq - lp)
		}
	}
	if math.IsNaN(sumP) { // the runtime has no number here
		return sumP, sumP, sumP
	}
	tail = math.Max(1-sumP, 0)
	rest := math.Max(1-sumQ, least)
	if tail > least {
		kl += tail * math.Log(tail/rest)
	}
	if 1-sumQ > least {
		reverse += rest * math.Log(rest/math.Max(tail, least))
	}
	return math.Max(kl, 0), math.Max(reverse, 0), tail
}

// comparing collects the figures of one server, or of a variant of the runtime,
// against a runtime.
type comparing struct {
	special func(id int) bool // a token behind which nothing is expected
	step    int               // index_topk; 0: none
	top     int

	rows                   []stats.Row
	f                      Figures
	abs                    []float64
	early, half, stepSum   [2]float64
	earlyN                 float64
	halfN, stepN           [2]float64
	top10, rank, tail, rev float64
	named, same, clearSame int
	nllP, nllQ             float64
	unknown                int // places whose token the server does not name
}

// add takes a sequence: what the runtime says after each token but the last, and
// what the server says of each token.
func (c *comparing) add(seq int, ids []int, rows []row, server []said) {
	for i := 1; i < len(ids); i++ {
		x := server[i]
		if !x.known || len(x.others) == 0 {
			continue
		}
		p := rows[i-1]
		lp, lq := p.at[ids[i]], x.actual
		unknown := math.IsNaN(lq)
		if unknown {
			c.unknown++
			lq = lp
		}
		kl, reverse, tail := coarse(p.at, x.others)
		d := lp - math.Max(lq, -9999)
		if i < early || c.special != nil && c.special(ids[i-1]) {
			if !unknown {
				c.early[0] += math.Abs(d)
				c.earlyN++
			}
			continue
		}
		c.f.Places = append(c.f.Places, Place{seq, i, ids[i], kl, d, tail})
		c.rows = append(c.rows, stats.Row{Seq: seq, Pos: i, KL: kl, NLL: -lp, OtherN: -lq})
		c.rev, c.tail = c.rev+reverse, c.tail+tail
		if !unknown { // else nothing is said of the token itself
			c.count(i, len(ids), d)
			c.nllP, c.nllQ = c.nllP-lp, c.nllQ-lq
		}
		c.choices(p, x)
	}
}

func (c *comparing) count(pos, length int, d float64) {
	c.abs = append(c.abs, math.Abs(d))
	c.f.Bias += d
	h := 0
	if pos >= length/2 {
		h = 1
	}
	c.half[h] += math.Abs(d)
	c.halfN[h]++
	if c.step > 0 {
		h = 0
		if pos >= c.step {
			h = 1
		}
		c.stepSum[h] += math.Abs(d)
		c.stepN[h]++
	}
}

// choices compares the most likely tokens.
func (c *comparing) choices(p row, x said) {
	list := make([]entry, 0, len(x.others))
	for id, v := range x.others {
		list = append(list, entry{id, v})
	}
	slices.SortFunc(list, func(a, b entry) int {
		if a.value != b.value {
			if a.value > b.value {
				return -1
			}
			return 1
		}
		return a.id - b.id
	})
	if len(p.top) < 2 || x.mute != nil && hidden(list, p.top[0].id, x.mute) {
		return
	}
	c.named++
	hit := list[0].id == p.top[0].id
	if hit {
		c.same++
	}
	if p.top[0].value-p.top[1].value >= near {
		c.f.ClearN++
		if hit {
			c.clearSame++
		}
	}
	n := min(10, len(p.top), len(list))
	both := 0
	for _, a := range p.top[:n] {
		if slices.ContainsFunc(list[:n], func(b entry) bool { return b.id == a.id }) {
			both++
		}
	}
	c.top10 += float64(both) / float64(n)
	rank := len(list) + 1
	for i, e := range list {
		if e.id == p.top[0].id {
			rank = i + 1
			break
		}
	}
	c.rank += float64(rank)
}

// hidden reports whether the choice of a server that cannot name every token is
// not known: the runtime's choice is one of those, or one of them may be likelier
// than all that it names, best first.
func hidden(list []entry, choice int, mute func(id int) bool) bool {
	rest := 1.0
	for _, e := range list {
		rest -= math.Exp(e.value)
	}
	return len(list) == 0 || mute(choice) || rest >= math.Exp(list[0].value)
}

// figures condenses what was added.
func (c *comparing) figures() Figures {
	f := c.f
	f.Tokens = len(c.rows)
	if f.Places == nil {
		f.Places = []Place{}
	}
	if f.Tokens == 0 {
		return f
	}
	n := float64(f.Tokens)
	s := stats.Summarize(c.rows)
	f.KL, f.Upper95 = s.MeanKL, s.Upper95
	f.Reverse, f.Tail = c.rev/n, c.tail/n
	if sorted := slices.Sorted(slices.Values(c.abs)); len(sorted) > 0 {
		m := float64(len(sorted))
		f.Bias /= m
		for _, v := range sorted {
			f.Abs += v / m
		}
		f.P99, f.Max = sorted[int(0.99*(m-1))], sorted[len(sorted)-1]
		f.Perplexity = [2]float64{math.Exp(c.nllP / m), math.Exp(c.nllQ / m)}
	}
	named := math.Max(float64(c.named), 1)
	f.Top1, f.Top10, f.Rank = float64(c.same)/named, c.top10/named, c.rank/named
	if f.ClearN > 0 {
		f.Clear = float64(c.clearSame) / float64(f.ClearN)
	}
	if c.earlyN > 0 {
		f.Early = c.early[0] / c.earlyN
	}
	for i := range 2 {
		f.Halves[i] = c.half[i] / math.Max(c.halfN[i], 1)
		f.Step[i] = c.stepSum[i] / math.Max(c.stepN[i], 1)
	}
	f.StepN = int(c.stepN[1])
	return f
}

// wanted are the ids that the runtime is asked for after each token but the
// last: those that the server names, and the actual one.
func wanted(ids []int, server []said) [][]int {
	out := make([][]int, max(len(ids)-1, 0))
	for i := range out {
		list := []int{ids[i+1]}
		for id := range server[i+1].others {
			if id != ids[i+1] {
				list = append(list, id)
			}
		}
		out[i] = list
	}
	return out
}

// spoken makes what a server would say of rows: a variant of the runtime takes
// the server's place. like says which tokens are named.
func spoken(ids []int, rows []row, like []said) []said {
	out := make([]said, len(ids))
	for i := 1; i < len(ids); i++ {
		if !like[i].known {
			continue
		}
		x := said{known: true, actual: rows[i-1].at[ids[i]], others: map[int]float64{}}
		for id := range like[i].others {
			x.others[id] = rows[i-1].at[id]
		}
		x.others[ids[i]] = x.actual
		out[i] = x
	}
	return out
}

// compare makes the figures of a server against a model whose states are known.
func (m *model) compare(ctx context.Context, c *comparing, seqs [][]int, states [][]float32, server [][]said) (Figures, error) {
	for i, ids := range seqs {
		rows, err := m.rows(ctx, states[i], wanted(ids, server[i]), max(c.top, 10))
		if err != nil {
			return Figures{}, err
		}
		c.add(i, ids, rows, server[i])
	}
	return c.figures(), nil
}
