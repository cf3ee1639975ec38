package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/engine"
)

// The goals.
const (
	Latency     = "latency"
	Balanced    = "balanced"
	Throughput  = "throughput"
	LongContext = "long-context"
)

// Goals and Topologies are the values that a Query takes.
var (
	Goals      = []string{Latency, Balanced, Throughput, LongContext}
	Topologies = []string{"single", "multi", "pd"}
)

// AutoMTP leaves the number of drafts to the goal.
const AutoMTP = -1

// Query is what a recipe is asked for.
type Query struct {
	Model          *Model
	Release        engine.Release
	Hardware       Hardware
	Topology       string // "": single, or multi with more than one node
	Goal           string // "": throughput
	TP, EP, DP, PP int    // 0: chosen
	MaxModelLen    int    // 0: the model's own, or what fits
	Concurrency    int    // requests at once; 0: one
	KV             string // "auto", "bf16", "fp8"
	MTP            int    // drafts; AutoMTP: by goal, 0: none
	Tools          string // parsers; "": the model's, "none"
	Reasoning      string
	ServedName     string
	NodeIP         []string
	Interface      string
	Prefill        Group // pd
	Decode         Group
	Image          string
	Unverified     bool // also what no source has verified
	NoNearest      bool // a refusal need not name a recipe that works: faster

	memo *memo // answers to keep
}

// Group is nodes of a prefill-decode set-up.
type Group struct{ Nodes, Devices int }

// candidate is one way to use the devices.
type candidate struct {
	*Query
	tp, pp, dp int // dp: data-parallel ranks (vLLM, vllm-ascend) or replicas (SGLang)
	attnDP     int
	ep         bool
	drafts     int
	kv         string
	util       float64
	cell       *cell
	rows       []engine.Row
	warnings   []string
}

// Refusal says why there is no recipe.
type Refusal struct {
	Rule    int    `json:"rule"`
	Source  string `json:"source"`
	Detail  string `json:"detail"`
	Nearest string `json:"nearest,omitempty"`
}

// Rejected is a candidate that a rule refused.
type Rejected struct {
	Degrees string `json:"degrees"`
	Rule    int    `json:"rule"`
	Detail  string `json:"detail"`
}

// degrees names a candidate: "TP4+EP4", "2 x TP4", "TP8, attention DP 8".
func (c *candidate) degrees() string {
	s := fmt.Sprintf("TP%d", c.tp)
	if c.ep {
		s += fmt.Sprintf("+EP%d", c.expertRanks())
	}
	if c.pp > 1 {
		s += fmt.Sprintf("+PP%d", c.pp)
	}
	if c.attnDP > 1 {
		s += fmt.Sprintf(", attention DP %d", c.attnDP)
	}
	if c.dp > 1 {
		s = fmt.Sprintf("%d x %s", c.dp, s)
	}
	return s
}

// Decide answers a query. The error is a *UsageError for values that contradict
// themselves; what would crash, not fit or compute wrong numbers is a Recipe
// that is Refused.
func Decide(q Query) (*Recipe, error) {
	if err := q.normalize(); err != nil {
		return nil, err
	}
	if q.Topology == "pd" {
		return decidePair(&q)
	}
	return decide(&q)
}

func decide(q *Query) (*Recipe, error) {
	published := q.find()
	rows := q.judge()
	r := &Recipe{Query: q, Schema: Schema}
	if published != nil && published.Refuse != "" && !q.forced() {
		r.Refused = &Refusal{Rule: 12, Source: published.source(), Detail: published.Refuse}
		r.Refused.Nearest = q.nearest(r.Refused)
		return r, nil
	}
	var passed []*candidate
	var first *Refusal
	var room int64 // of the candidate that first is about
	for _, c := range q.candidates(rows, published) {
		if refusal := c.judge(); refusal != nil {
			r.Rejected = append(r.Rejected, Rejected{c.degrees(), refusal.Rule, refusal.Detail})
			left := c.memory().Cache
			if first == nil || rank(refusal.Rule) > rank(first.Rule) || refusal.Rule == first.Rule && left > room {
				first, room = refusal, left
			}
			continue
		}
		passed = append(passed, c)
	}
	if len(passed) == 0 {
		if first == nil {
			first = &Refusal{Rule: 10, Source: "docs/facts/engine-vllm.md", Detail: fmt.Sprintf("no degrees use exactly %d devices", q.Hardware.Total())}
		}
		first.Nearest = q.nearest(first)
		r.Refused = first
		return r, nil
	}
	best := passed[0]
	for _, c := range passed[1:] {
		if c.better(best) {
			best = c
		}
	}
	best.fill(r)
	return r, nil
}

// rank orders refusals by how far a candidate came: a set-up that only lacks
// memory says more than one that never loads.
func rank(rule int) int { return slices.Index(order, rule) }

// forced reports whether the user chose degrees.
func (q *Query) forced() bool { return q.TP+q.EP+q.DP+q.PP > 0 }

// checkWords refuses words for goal and topology that there are not.
func (q *Query) checkWords() error {
	if q.Goal != "" && !slices.Contains(Goals, q.Goal) {
		return usage("the goals are "+strings.Join(Goals, ", "), "--goal %q is unknown", q.Goal)
	}
	if q.Topology != "" && !slices.Contains(Topologies, q.Topology) {
		return usage("the topologies are "+strings.Join(Topologies, ", "), "--topology %q is unknown", q.Topology)
	}
	return nil
}

// normalize fills defaults in and refuses contradictions.
func (q *Query) normalize() error {
	if err := q.checkWords(); err != nil {
		return err
	}
	if q.Goal == "" {
		q.Goal = Throughput
	}
	if q.Topology == "" {
		q.Topology = "single"
		if q.Hardware.Nodes > 1 {
			q.Topology = "multi"
		}
	}
	if q.Topology == "single" && q.Hardware.Nodes > 1 {
		return usage("leave --topology out, or ask for one node", "--topology single and %d nodes contradict each other", q.Hardware.Nodes)
	}
	if q.KV == "" {
		q.KV = "auto"
	}
	if !slices.Contains([]string{"auto", "bf16", "fp8"}, q.KV) {
		return usage("the types are auto, bf16 and fp8", "--kv-dtype %q is unknown", q.KV)
	}
	for _, n := range []struct {
		flag string
		v    int
	}{{"--tp", q.TP}, {"--ep", q.EP}, {"--dp", q.DP}, {"--pp", q.PP}, {"--max-model-len", q.MaxModelLen}, {"--concurrency", q.Concurrency}} {
		if n.v < 0 || n.v > 1<<24 {
			return usage("", "%s %d is out of range", n.flag, n.v)
		}
	}
	if q.MTP < AutoMTP || q.MTP > 16 {
		return usage("0 to 16 drafts", "--mtp %d is out of range", q.MTP)
	}
	if n := max(q.TP, 1) * max(q.DP, 1) * max(q.PP, 1); n > q.Hardware.Total() || q.TP > 0 && q.Hardware.Total()%(q.TP*max(q.PP, 1)) != 0 {
		return usage("TP x PP x DP must equal the devices of all nodes", "TP %d, DP %d and PP %d do not divide %d devices", q.TP, q.DP, q.PP, q.Hardware.Total())
	}
	if q.TP > 0 && q.DP > 0 && q.TP*q.DP*max(q.PP, 1) != q.Hardware.Total() {
		return usage("TP x PP x DP must equal the devices of all nodes", "TP %d x DP %d x PP %d is not %d devices", q.TP, q.DP, max(q.PP, 1), q.Hardware.Total())
	}
	if q.Topology != "pd" { // there each group has devices of its own
		if err := q.checkDegrees(); err != nil {
			return err
		}
	}
	return q.checkText()
}

// candidates lists the ways to use the devices exactly.
func (q *Query) candidates(rows []engine.Row, published *cell) []*candidate {
	var out []*candidate
	for _, c := range q.degrees() {
		c.rows, c.cell = rows, published
		out = append(out, c.choose())
		if q.Release.Engine == engine.SGLang && q.Model.Config.LatentAttention() && c.tp > 1 && c.dp == 1 {
			spread := c
			spread.attnDP = c.tp
			out = append(out, spread.choose())
		}
	}
	return out
}

// choose settles what does not multiply candidates: drafts and the type of the
// cache.
func (c candidate) choose() *candidate {
	c.kv = c.KV
	if c.kv == "auto" {
		c.kv = "bf16"
		if c.flagged("--kv-cache-dtype fp8") {
			c.kv = "fp8"
		}
	}
	c.drafts = max(c.MTP, 0)
	if c.MTP == AutoMTP && c.Model.Subject.Draft == engine.HasDraft && c.draftProblem() == "" {
		c.drafts = c.goalDrafts()
	}
	return &c
}

// goalDrafts is the number of drafts for a goal: long ones pay at low load
// only, none at hundreds of requests.
func (c *candidate) goalDrafts() int {
	if c.cell != nil && c.cell.MTP != "" {
		var k, topk, n int
		if _, err := fmt.Sscanf(c.cell.MTP, "%d/%d/%d", &k, &topk, &n); err == nil && (c.Goal != Throughput || c.cell.Goal == Throughput) {
			return k
		}
	}
	if c.cell != nil && c.cell.K > 0 {
		return c.cell.K
	}
	most := c.Model.Config.DraftSteps()
	if p, ok := table().VLLM.Models[c.Model.Name]; ok {
		most = p.MTP
	}
	switch {
	case c.Goal == Latency:
		return most
	case c.Goal == Balanced:
		return 1
	case c.Goal == Throughput && c.Concurrency > 0 && c.Concurrency <= 32*c.spread():
		return min(most, 3)
	}
	return 0
}

// flagged reports whether the cell has a flag that contains text.
func (c *candidate) flagged(text string) bool {
	return c.cell != nil && slices.ContainsFunc(c.cell.Flags, func(f string) bool { return strings.Contains(f, text) })
}

// row is the engine tables' answer for the candidate's degree.
func (c *candidate) row() *engine.Row {
	name := fmt.Sprintf("TP%d", c.tp)
	if c.ep && c.tp > 1 {
		name += "+EP"
	}
	for i := range c.rows {
		if c.rows[i].Parallel == name {
			return &c.rows[i]
		}
	}
	return nil
}

// better orders candidates that pass: by goal, then whether a published set-up
// has these degrees.
func (c *candidate) better(o *candidate) bool {
	if a, b := c.matches(), o.matches(); a != b && c.cell.status(c.Hardware.ID) == "verified" {
		return a // somebody ran it
	}
	cm, om := c.memory(), o.memory()
	if a, b := c.tight(cm), o.tight(om); a != b {
		return b
	}
	switch c.Goal {
	case Latency:
		if ct, ot := c.inNode(), o.inNode(); ct != ot {
			return ct > ot
		}
		if c.attnDP != o.attnDP {
			return c.attnDP < o.attnDP
		}
		return !c.ep && o.ep
	case LongContext:
		if ct, ot := c.tokens(cm), o.tokens(om); ct != ot {
			return ct > ot
		}
	default:
		roomy := func(m Memory) bool { return 4*m.Cache >= m.Usable }
		switch a, b := roomy(cm), roomy(om); {
		case a != b:
			return a
		case a && c.tp != o.tp:
			return c.tp < o.tp
		case !a && c.tp != o.tp:
			return c.tp > o.tp
		case !a && c.tokens(cm) != o.tokens(om):
			return c.tokens(cm) > o.tokens(om)
		}
		if c.attnDP != o.attnDP {
			return c.attnDP > o.attnDP
		}
	}
	if a, b := c.matches(), o.matches(); a != b {
		return a
	}
	return c.ep && !o.ep
}

// tokens is what all ranks hold.
func (c *candidate) tokens(m Memory) int64 { return m.Cache / m.PerToken * int64(c.spread()) }

// tight reports whether what is asked for lies inside the memory's error.
func (c *candidate) tight(m Memory) bool { return m.Cache-c.needed(c.length(m)) < m.Margin }

// inNode is the tensor-parallel degree, as far as it stays in one node.
func (c *candidate) inNode() int {
	if c.tp > c.Hardware.Devices {
		return 0
	}
	return c.tp
}

// matches reports whether the published set-up has these degrees.
func (c *candidate) matches() bool {
	p := c.cell
	if p == nil || p.TP != c.tp || max(p.AttnDP, 1) != c.attnDP {
		return false
	}
	if p.EP > 0 && (p.EP > 1) != c.ep || p.DP > 0 && p.DP != c.dp || p.Replicas > 0 && p.Replicas != c.dp {
		return false
	}
	return true
}
