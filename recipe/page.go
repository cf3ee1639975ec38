package recipe

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/quant/engine"
)

//go:embed page.gohtml
var pageText string

var pageTemplate = sync.OnceValue(func() *template.Template { return template.Must(template.New("recipe").Parse(pageText)) })

// choice is one thing to choose on the page.
type choice struct {
	ID      string   `json:"id"`
	Label   string   `json:"label"`
	Options []option `json:"options"`
	First   string   `json:"first"` // the option that is chosen when the page opens
}

// option is one value of a choice, with the words that it adds to the command.
type option struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	Group string `json:"group,omitempty"` // a heading among the options
	Flags string `json:"flags,omitempty"` // {device} and {node} are those of the device that is chosen
	Node  int    `json:"node,omitempty"`  // devices of a usual server

	set func(*Query) bool // false: the device has no such machines
}

// page is what the page holds. Cells are numbers of decisions, the last choice
// varying fastest; -1 where there are no such machines.
type page struct {
	Command   string     `json:"command"` // up to the words of the options
	Choices   []choice   `json:"choices"`
	Forms     []string   `json:"forms"`
	Cells     []int      `json:"cells"`
	Decisions []decision `json:"decisions"`
	*packed
}

// decision is a cell: [state, words, reason, text of each form]. State 0 fits, 1
// is tight, 2 is refused; words and reason are strings; of a form that the
// recipe does not have there is -1.
type decision []int

const (
	stateFits = iota
	stateTight
	stateRefused
)

// WriteHTML writes one page that needs no network: what Decide answers for the
// question's model on every device, number of machines, engine and goal, with
// the rest of the question as it is asked, but for Topology, Prefill, Decode and
// NodeIP: those follow from the machines. Its Hardware and Release, where they
// are set, are what the page opens with. Degrees that are forced and do not
// divide some machines are refused there. The page's script looks decisions up;
// it makes none. The error is that of Decide, or w's.
func WriteHTML(w io.Writer, q Query) error {
	p, err := newPage(q)
	if err != nil {
		return err
	}
	return p.write(w, q.Model)
}

// write is the page with its cells.
func (p *page) write(w io.Writer, m *Model) error {
	raw, err := json.Marshal(p) // with <, > and & escaped
	if err != nil {
		return err
	}
	data := struct {
		Title, About string
		Choices      []choice
		Forms        []string
		JSON         template.JS
	}{safetext.Line(m.Path), fmt.Sprintf("%s, %s of weights.", m.Quant, progress.Bytes(m.Trunk.Total()+m.Draft.Total())), p.Choices, p.Forms,
		template.JS(raw)} //nolint:gosec // JSON with <, > and & escaped
	var b bytes.Buffer
	if err := pageTemplate().Execute(&b, data); err != nil {
		return fmt.Errorf("recipe: %w", err)
	}
	_, err = b.WriteTo(w)
	return err
}

// newPage asks every question of the page.
func newPage(q Query) (*page, error) {
	if err := q.checkWords(); err != nil {
		return nil, err
	}
	q.memo = newMemo()
	q.NodeIP, q.Prefill, q.Decode, q.Topology = nil, Group{}, Group{}, ""
	p := &page{Command: "glmconv recipe " + q.words(), Choices: q.choices(), Forms: Forms, packed: newPacked()}
	known := map[string]int{}
	at := make([]int, len(p.Choices))
	for {
		ask, there := q, true
		for i, c := range p.Choices {
			there = there && c.Options[at[i]].set(&ask)
		}
		cell := -1
		if there {
			r, err := ask.answer()
			if err != nil {
				return nil, err
			}
			if cell, err = p.add(r, known); err != nil {
				return nil, err
			}
		}
		p.Cells = append(p.Cells, cell)
		i := len(at) - 1
		for ; i >= 0; i-- {
			if at[i]++; at[i] < len(p.Choices[i].Options) {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			return p, nil
		}
	}
}

// answer is Decide's, but that forced degrees which contradict the machines are
// a refusal: on others they do not.
func (q *Query) answer() (*Recipe, error) {
	r, err := Decide(*q)
	if err == nil || !q.forced() || min(q.TP, q.EP, q.DP, q.PP) < 0 {
		return r, err
	}
	free := *q
	free.TP, free.EP, free.DP, free.PP = 0, 0, 0, 0
	if free.normalize() != nil {
		return nil, err
	}
	return &Recipe{Query: &free, Schema: Schema, Refused: &Refusal{Rule: 10, Source: "recipe", Detail: err.Error()}}, nil
}

// add keeps a decision, once where several questions have it.
func (p *page) add(r *Recipe, known map[string]int) (int, error) {
	same, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	key := r.Query.Hardware.String() + " " + r.Query.Release.String() + "\n" + string(same)
	if n, ok := known[key]; ok {
		return n, nil
	}
	d := decision{stateFits, 0, 0}
	switch {
	case r.Refused != nil:
		d = decision{stateRefused, p.text(fmt.Sprintf("rule %d", r.Refused.Rule)), p.text(r.Refused.Detail)}
	case r.Tight:
		d = decision{stateTight, p.text(r.Degrees), p.text("inside the error of the memory's figures; safe with " + r.Safer)}
	default:
		d[1], d[2] = p.text(r.Degrees), p.text(r.Cell.Status)
	}
	for _, f := range Forms {
		text, err := r.Render(f)
		if err != nil { // refused, or not for this topology
			d = append(d, -1)
			continue
		}
		d = append(d, p.lines(f, text))
	}
	p.Decisions = append(p.Decisions, d)
	known[key] = len(p.Decisions) - 1
	return len(p.Decisions) - 1, nil
}

// words are the parts of a command that the page does not vary.
func (q *Query) words() string {
	s := shell(q.Model.Path)
	if q.Model.asked != "" {
		s = q.Model.asked
	}
	for _, f := range []struct {
		flag  string
		value int
	}{{"tp", q.TP}, {"ep", q.EP}, {"dp", q.DP}, {"pp", q.PP}, {"concurrency", q.Concurrency}} {
		if f.value > 0 {
			s += fmt.Sprintf(" --%s %d", f.flag, f.value)
		}
	}
	for _, f := range []struct{ flag, value string }{{"kv-dtype", q.KV}, {"served-model-name", q.ServedName}, {"interface", q.Interface}, {"image", q.Image}} {
		if f.value != "" && f.value != "auto" {
			s += fmt.Sprintf(" --%s %s", f.flag, shell(f.value))
		}
	}
	if q.Unverified {
		s += " --unverified"
	}
	return s
}

// choices are what the page varies.
func (q *Query) choices() []choice {
	machines, first := q.machines()
	out := []choice{
		{ID: "engine", Label: "Engine", Options: q.engines(), First: string(q.Release.Engine)},
		{ID: "device", Label: "Device", Options: q.devices(), First: q.Hardware.ID},
		{ID: "machines", Label: "Machines", Options: machines, First: first},
		{ID: "goal", Label: "Goal", First: q.Goal},
		{ID: "context", Label: "Context", Options: q.lengths()},
		{ID: "drafts", Label: "Drafts (MTP)", Options: q.draftCounts()},
		{ID: "parsers", Label: "Parsers", Options: q.parserChoices()},
	}
	for _, g := range Goals {
		out[3].Options = append(out[3].Options, option{ID: g, Label: g, Flags: "--goal " + g, set: func(q *Query) bool { q.Goal = g; return true }})
	}
	for i, c := range out {
		if !slices.ContainsFunc(c.Options, func(o option) bool { return o.ID == c.First }) {
			out[i].First = c.Options[0].ID
		}
	}
	if q.Goal == "" {
		out[3].First = Throughput
	}
	return out
}

func (q *Query) engines() (out []option) {
	for _, e := range engine.Engines {
		r, flags := engine.Newest(e), "--engine "+string(e)
		if q.Release.Engine == e {
			r = q.Release
			flags += "@" + r.Version
		}
		out = append(out, option{ID: string(e), Label: r.Title(), Flags: flags, set: func(q *Query) bool { q.Release = r; return true }})
	}
	return out
}

func (q *Query) devices() (out []option) {
	list := engine.Devices()
	if q.Hardware.ID == "custom" {
		list = append([]string{"custom"}, list...)
	}
	for _, id := range list {
		hw, flags := q.Hardware, id+":"
		if id == "custom" {
			flags = fmt.Sprintf("custom:mem=%d,cc=%d.%d,n=", hw.Bytes, hw.Device.Capability/10, hw.Device.Capability%10)
			hw.spec.Node = max(hw.Devices, 1)
		} else {
			var err error
			if hw, err = ParseHardware(id + ":1"); err != nil {
				continue // no memory in the tables: nothing is served there
			}
		}
		out = append(out, option{ID: id, Label: id, Flags: flags, Node: max(hw.spec.Node, 1), set: func(q *Query) bool { q.Hardware = hw; return true }})
	}
	return out
}

// machines are numbers of devices in one server, numbers of servers, and
// servers of prefill and decode. The one that the question has comes first.
func (q *Query) machines() (out []option, first string) {
	single := func(n int) option {
		number := strconv.Itoa(n)
		return option{ID: number, Label: number, Group: "devices of one server", Flags: "--hardware {device}" + number, set: func(q *Query) bool {
			q.Hardware.Devices, q.Hardware.Nodes = n, 1
			return n <= max(q.Hardware.spec.Node, 1)
		}}
	}
	counts := []int{1, 2, 4, 8, 16}
	h := q.Hardware
	if h.Nodes == 1 && h.Devices > 0 && !slices.Contains(counts, h.Devices) {
		counts = append(counts, h.Devices)
		slices.Sort(counts)
	}
	for _, n := range counts {
		out = append(out, single(n))
	}
	servers := []int{2, 4}
	if h.Nodes > 1 && !slices.Contains(servers, h.Nodes) {
		servers = append(servers, h.Nodes)
		slices.Sort(servers)
	}
	for _, n := range servers {
		out = append(out, option{ID: "x" + strconv.Itoa(n), Label: strconv.Itoa(n), Group: "full servers", Flags: fmt.Sprintf("--hardware {device}{node}x%d", n),
			set: func(q *Query) bool {
				q.Hardware.Devices, q.Hardware.Nodes = max(q.Hardware.spec.Node, 1), n
				return true
			}})
	}
	for _, g := range [][2]int{{1, 1}, {2, 4}} {
		out = append(out, option{ID: fmt.Sprintf("%d+%d", g[0], g[1]), Label: fmt.Sprintf("%d + %d", g[0], g[1]), Group: "servers of prefill + decode",
			Flags: fmt.Sprintf("--hardware {device}{node} --prefill %dx{node} --decode %dx{node}", g[0], g[1]), set: func(q *Query) bool {
				node := max(q.Hardware.spec.Node, 1)
				q.Hardware.Devices, q.Hardware.Nodes, q.Topology = node, 1, "pd"
				q.Prefill, q.Decode = Group{g[0], node}, Group{g[1], node}
				return true
			}})
	}
	first = strconv.Itoa(max(h.Devices, 1))
	switch {
	case h.Nodes > 1:
		first = "x" + strconv.Itoa(h.Nodes)
	case h.Devices == 0:
		first = "8"
	}
	return out, first
}

func (q *Query) lengths() (out []option) {
	if n := q.MaxModelLen; n > 0 {
		return []option{{ID: strconv.Itoa(n), Label: progress.Thousands(int64(n)), Flags: fmt.Sprintf("--max-model-len %d", n), set: asAsked}}
	}
	out = []option{{ID: "own", Label: "the model's, or what fits", set: asAsked}}
	for _, n := range []int{32768, 131072} {
		if n < q.Model.Config.MaxPositions {
			out = append(out, option{ID: strconv.Itoa(n), Label: progress.Thousands(int64(n)), Flags: fmt.Sprintf("--max-model-len %d", n),
				set: func(q *Query) bool { q.MaxModelLen = n; return true }})
		}
	}
	return out
}

func (q *Query) draftCounts() []option {
	off := option{ID: "off", Label: "off", Flags: "--no-mtp", set: func(q *Query) bool { q.MTP = 0; return true }}
	switch {
	case q.MTP == 0:
		return []option{off}
	case q.MTP > 0:
		return []option{{ID: strconv.Itoa(q.MTP), Label: strconv.Itoa(q.MTP), Flags: fmt.Sprintf("--mtp %d", q.MTP), set: asAsked}, off}
	}
	return []option{{ID: "auto", Label: "by goal", set: asAsked}, off}
}

func (q *Query) parserChoices() []option {
	flags := ""
	for _, f := range []struct{ flag, value string }{{"tools", q.Tools}, {"reasoning", q.Reasoning}} {
		if f.value != "" {
			flags += fmt.Sprintf(" --%s %s", f.flag, shell(f.value))
		}
	}
	asked := option{ID: "on", Label: "the model's", set: asAsked}
	if flags != "" {
		asked.Label, asked.Flags = "as asked", flags[1:]
	}
	return []option{asked, {ID: "none", Label: "none", Flags: "--tools none --reasoning none", set: func(q *Query) bool {
		q.Tools, q.Reasoning = "none", "none"
		return true
	}}}
}

// asAsked leaves the question as it is.
func asAsked(*Query) bool { return true }
