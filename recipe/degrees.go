package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/engine"
)

// degrees lists the parallel sizes that use the devices exactly and are those
// that the user forced.
func (q *Query) degrees() []candidate {
	var out []candidate
	total, pp := q.Hardware.Total(), max(q.PP, 1)
	for tp := 1; tp <= total; tp++ {
		if total%(tp*pp) != 0 || q.TP > 0 && tp != q.TP {
			continue
		}
		dp := total / (tp * pp)
		if q.DP > 0 && dp != q.DP {
			continue
		}
		for _, ep := range []bool{true, false} {
			c := candidate{Query: q, tp: tp, pp: pp, dp: dp, ep: ep, attnDP: 1}
			if ep && tp*dp == 1 || q.EP > 0 && c.expertDegree() != q.EP {
				continue
			}
			out = append(out, c)
		}
	}
	return out
}

// expertDegree is the degree of expert parallelism, 1 without it. It follows
// from the others: vLLM and vllm-ascend spread experts over all ranks of TP and
// DP, with SGLang it is TP.
func (c *candidate) expertDegree() int {
	if !c.ep {
		return 1
	}
	return c.expertRanks()
}

// checkDegrees refuses forced degrees that no use of the devices has.
func (q *Query) checkDegrees() error {
	if len(q.degrees()) > 0 {
		return nil
	}
	free := *q
	free.EP = 0
	var have []int
	for _, c := range free.degrees() {
		have = append(have, c.expertDegree())
	}
	if len(have) == 0 {
		return usage("TP x PP x DP must equal the devices of all nodes", "TP %d, DP %d and PP %d do not divide %d devices", q.TP, q.DP, q.PP, q.Hardware.Total())
	}
	slices.Sort(have)
	words := strings.Trim(fmt.Sprint(slices.Compact(have)), "[]")
	what := "TP x DP"
	if q.Release.Engine == engine.SGLang {
		what = "TP"
	}
	return usage(fmt.Sprintf("1, or the ranks of %s: %s", what, strings.ReplaceAll(words, " ", ", ")),
		"--ep %d: %s spreads experts over all ranks of %s or none", q.EP, q.Release.Title(), what)
}
