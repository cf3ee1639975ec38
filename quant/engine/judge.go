package engine

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// Layout is how a result lies on disk; "" is full precision.
type Layout string

// The layouts that engines' tables speak of.
const (
	CompressedTensors Layout = "compressed-tensors"
	HFFP8             Layout = "hf-fp8"
	AscendLayout      Layout = "ascend"
)

// The layouts of other tools, named as declarations name them. Engines match
// and read them; nobody here writes them but ModelOpt's.
const (
	ModelOpt  Layout = "modelopt"
	Quark     Layout = "quark"
	GPTQ      Layout = "gptq"
	AWQ       Layout = "awq"
	AutoRound Layout = "auto-round"
)

var published = []Layout{ModelOpt, Quark, GPTQ, AWQ, AutoRound}

// Part is how the weights of one part of a model are stored. The zero value is
// full precision.
type Part struct {
	Weight format.Weight
	Acts   format.Activation
	Scheme string // its entry in an Ascend description
}

func (p Part) String() string {
	switch {
	case p.Scheme != "":
		return p.Scheme
	case !p.Acts.Quantized():
		return p.Weight.String()
	}
	return p.Weight.String() + " with " + p.Acts.String() + " activations"
}

// Draft is what a checkpoint has of its MTP layer.
type Draft uint8

// The states of an MTP layer.
const (
	NoDraft   Draft = iota // none, and none is declared
	LostDraft              // declared, and its tensors are not there
	HasDraft
)

// Subject is what the tables need to know of a checkpoint.
type Subject struct {
	Config                 *glm.Config
	Layout                 Layout
	Experts, Shared, Dense Part // of the trunk
	Attention, Output      Part // its inputs and its output projection
	DraftExperts           Part // of the MTP layer
	Draft                  Draft
	CacheC8                bool // scales for an int8 key-value cache (Ascend C8)
	IndexerC8              bool // an int8 cache of the sparse attention's indexer
	LatentC8               bool // an int8 cache of its key-value latents
	// Mixed are subjects for kinds of layers that have other parts (Layers).
	Mixed []Subject
}

// Part is the part that a tensor of the family's table belongs to, nil for one
// that no rule asks for.
func (s *Subject) Part(t glm.Tensor) *Part {
	switch r := t.Role; {
	case t.MTP && r.IsExpert():
		return &s.DraftExperts
	case t.MTP:
		return nil
	case r.IsExpert():
		return &s.Experts
	case r.IsShared():
		return &s.Shared
	case r.IsDense():
		return &s.Dense
	case r == glm.AttnO:
		return &s.Output
	case r.IsAttention():
		return &s.Attention
	}
	return nil
}

// quantized lists the parts that are, with what they are.
func (s *Subject) quantized() []kept {
	all := []kept{{"experts", Experts, s.Experts}, {"shared experts", Linear, s.Shared}, {"dense MLPs", Linear, s.Dense}, {"attention", Linear,
		s.Attention}, {"o_proj", Linear, s.Output}}
	if s.Draft == HasDraft {
		all = append(all, kept{"experts of the MTP layer", Experts, s.DraftExperts})
	}
	return slices.DeleteFunc(all, func(k kept) bool { return !k.part.Weight.Quantized() && k.part.Scheme == "" })
}

// kept is a part, how engines build it, and its name.
type kept struct {
	what string
	kind Kind
	part Part
}

// Answer is what an engine makes of a checkpoint. There are four.
type Answer string

// The answers. Who loads a checkpoint without its MTP layer loads it; the rule
// then says that there is no speculative decoding.
const (
	Loads     Answer = "loads"
	Differs   Answer = "differs"    // loads without an error and computes something else
	Refuses   Answer = "refuses"    // ends with an error
	NotJudged Answer = "not-judged" // the tables do not know
)

// rank orders answers: what is refused is not computed wrong.
func (a Answer) rank() int { return slices.Index([]Answer{Loads, NotJudged, Differs, Refuses}, a) }

// Worse reports whether a is the worse answer of the two.
func (a Answer) Worse(b Answer) bool { return a.rank() > b.rank() }

// Row is the answer of one release of an engine at one degree of parallelism.
type Row struct {
	Engine   Engine   `json:"engine"`
	Release  string   `json:"release"`
	Hardware string   `json:"hardware"` // ids of the devices that the answer is about, with commas
	Parallel string   `json:"parallel"` // "TP4", "TP4+EP"
	Loads    *bool    `json:"loads"`    // null: not judged
	Answer   Answer   `json:"answer"`
	Rule     string   `json:"rule"`  // the rule that forbids it, or a remark
	Flags    []string `json:"flags"` // what the serve command must carry
	NoDraft  string   `json:"-"`     // why there is no speculative decoding, though there is or should be an MTP layer
}

// OK reports whether the row says that the checkpoint loads.
func (r Row) OK() bool { return r.Answer == Loads }

// Generations names the row's devices in the words of reports: "Ada, Hopper".
func (r Row) Generations() string {
	var list []Device
	for _, id := range strings.Split(r.Hardware, ",") {
		if d, err := FindDevice(id); err == nil {
			list = append(list, d)
		}
	}
	return generations(list)
}

// Query asks for a verdict. With no release it asks the newest ones of all
// engines, with no hardware all devices that an engine runs on: the answer is
// then the best of any device, and the row says of which.
type Query struct {
	Releases []Release
	Hardware *Device
}

// Degrees are the tensor-parallel sizes that are judged, with and without
// expert parallelism.
var Degrees = []int{1, 2, 4, 8, 16}

// Judge asks releases about a checkpoint: a row for each degree of
// parallelism.
func Judge(s Subject, q Query) []Row {
	if len(q.Releases) == 0 {
		for _, e := range Engines {
			q.Releases = append(q.Releases, Newest(e))
		}
	}
	var rows []Row
	for _, r := range q.Releases {
		for row := range degrees(&s, r, q.Hardware) {
			rows = append(rows, row)
		}
	}
	return rows
}

// LoadsAt reports whether a release loads a checkpoint at some degree of
// parallelism on some device, and whether it then drafts with the MTP layer: the
// first row of Judge that loads, without the others.
func LoadsAt(s *Subject, r Release) (loads, drafts bool) {
	for row := range degrees(s, r, nil) {
		if row.OK() {
			return true, row.NoDraft == ""
		}
	}
	return false, false
}

// degrees judges a release at one degree of parallelism after the other.
func degrees(s *Subject, r Release, only *Device) iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for _, ep := range []bool{false, true} {
			for _, tp := range Degrees {
				if (!ep || tp > 1) && !yield(judge(cell{Subject: s, release: r, tp: tp, ep: ep}, only)) {
					return
				}
			}
		}
	}
}

// judge gives the best answer of the devices asked about.
func judge(c cell, only *Device) Row {
	row := Row{Engine: c.release.Engine, Release: c.release.Version, Parallel: c.name(), Flags: []string{}}
	list := devices
	if only != nil {
		list = []Device{*only}
	}
	var ids []string
	known := false
	for _, d := range list {
		if only == nil && !slices.Contains(c.release.spec.vendors(c.Layout), d.Vendor) {
			continue
		}
		c.device = d
		answer, rule, fits := c.worst()
		switch {
		case row.Answer == "" || row.Answer.Worse(answer):
			row.Answer, row.Rule, ids, known = answer, rule, nil, fits
		case row.Answer == answer && fits && !known: // rather what else forbids it than that another device lacks the format
			row.Rule, known = rule, true
		}
		if answer == row.Answer {
			ids = append(ids, d.ID)
		}
	}
	row.Hardware = strings.Join(ids, ",")
	if row.Answer != NotJudged {
		ok := row.OK()
		row.Loads = &ok
	}
	if row.OK() {
		row.Flags = append(row.Flags, c.flags()...)
		drafts, none := c.speculation()
		row.Flags = append(row.Flags, drafts...)
		if row.NoDraft = none; none != "" {
			row.Rule = strings.TrimSuffix("no speculative decoding: "+none+"; "+row.Rule, "; ")
		}
	}
	return row
}

// cell is one release on one device at one degree.
type cell struct {
	*Subject
	release Release
	device  Device
	tp      int
	ep      bool
}

func (c cell) name() string {
	if c.ep {
		return fmt.Sprintf("TP%d+EP", c.tp)
	}
	return fmt.Sprintf("TP%d", c.tp)
}

// answer goes through the engine's tables: formats, then rules. The worst
// answer counts, of equal ones the first. fits tells that the formats load.
func (c cell) answer() (worst Answer, why string, fits bool) {
	worst = Loads
	note := func(a Answer, rule string) {
		if a.Worse(worst) || a == worst && why == "" {
			worst, why = a, rule
		}
	}
	if !slices.Contains(c.release.spec.vendors(c.Layout), c.device.Vendor) {
		return NotJudged, fmt.Sprintf("no table says what %s makes of this layout on %s", c.release.Title(), c.device.ID), false
	}
	rules := [2][]rule{nil, everywhere}
	for _, k := range c.quantized() {
		a, rule := c.form(k)
		if rule == "" && a == NotJudged && a.Worse(worst) { // the one that is told
			rule = fmt.Sprintf("no table says what %s makes of %s in %s on %s", c.release.Title(), k.part, k.what, c.device.Generation)
		}
		note(a, rule)
	}
	fits = worst == Loads
	if worst != NotJudged { // what a format demands is known where the format is
		rules[0] = c.release.spec.rules
	}
	for _, list := range rules {
		for i := range list {
			r := &list[i]
			if !c.release.holds(r.during) || r.applies != nil && !r.applies(c) {
				continue
			}
			if complaint := r.check(c); complaint != "" {
				note(cmp.Or(r.answer, Refuses), complaint)
			}
		}
	}
	return worst, why, fits
}

// speculation gives the flags of speculative decoding, or why there is none.
func (c cell) speculation() (flags []string, none string) {
	switch c.Draft {
	case NoDraft:
		return nil, ""
	case LostDraft:
		return nil, "config.json declares an MTP layer and the files do not hold it"
	}
	return c.release.spec.drafts(c)
}

// form is a row of the table of formats: what releases make of weights that
// are quantized in one way. The first row that matches decides; without one
// the format is not judged.
type form struct {
	layout Layout
	match  func(Part) bool
	kind   Kind              // Linear or Experts; 0: both
	on     func(Device) bool // nil: everywhere
	during span
	answer Answer // "": Loads
	why    string
	// kernel tells that the engine reads the format and it is a kernel that is
	// missing, for these devices or for GLM.
	kernel bool
}

// form looks a part up in the table of formats. What is in no row is NotJudged
// without a word: the sentence is made for the part that is told of.
func (c cell) form(k kept) (Answer, string) {
	if c.Layout == AscendLayout {
		return c.scheme(k)
	}
	for _, f := range c.release.spec.forms {
		if f.layout != c.Layout || f.kind != 0 && f.kind != k.kind || f.on != nil && !f.on(c.device) || !c.release.holds(f.during) || !f.match(k.part) {
			continue
		}
		if f.answer == "" {
			return Loads, f.why
		}
		return f.answer, f.why
	}
	return NotJudged, ""
}

// rule is a line of the table of demands: for which releases and cells it
// counts, and what it says against them.
type rule struct {
	applies func(cell) bool
	check   func(cell) string
	during  span
	answer  Answer // "": Refuses
}

// with matches parts with these codes and activations, however they are packed.
func with(w format.Weight, a format.Activation) func(Part) bool {
	return func(p Part) bool { return p.Weight.SameCodes(w) && p.Acts == a }
}

// weightOnly matches parts with these codes whose activations stay as they are.
func onlyWeight(w format.Weight) func(Part) bool { return with(w, format.Activation{}) }

// integers matches symmetric integers of these bits in groups of any size,
// with given activations and packing.
func integers(bits int, a format.Activation, p format.Packing) func(Part) bool {
	return func(x Part) bool {
		w := x.Weight
		return w.Type == format.Int && w.Bits == bits && !w.ZeroPoints && w.Packing == p && x.Acts == a
	}
}

// The formats of other tools that rows ask for.
var (
	oneScale    = format.Weight{Type: format.Float, Bits: 8, Strategy: format.Tensor} // FP8 with a scale a tensor
	staticScale = format.Activation{Type: format.Float, Bits: 8, Strategy: format.Tensor, When: format.Static}
)

// float8 matches FP8 weights of one of the strategies, whatever becomes of
// their inputs.
func float8(strategies ...format.Strategy) func(Part) bool {
	return func(p Part) bool {
		w := p.Weight
		return w.Type == format.Float && w.Bits == 8 && w.Scale != format.E8M0 && slices.Contains(strategies, w.Strategy)
	}
}

// codes matches integers without activations, packed in one of these ways,
// with or without zero points.
func codes(zeros bool, bits []int, packings ...format.Packing) func(Part) bool {
	return func(p Part) bool {
		w := p.Weight
		return w.Type == format.Int && w.ZeroPoints == zeros && slices.Contains(bits, w.Bits) && slices.Contains(packings, w.Packing) && !p.Acts.Quantized()
	}
}

// The widths that GPTQ's kernels have, and those of others.
var (
	fourEight   = []int{4, 8}
	otherWidths = []int{2, 3, 5, 6, 7}
	anyWidth    = []int{2, 3, 4, 5, 6, 7, 8}
)

// The parts that rules ask for.
func (p Part) blockFP8() bool   { return p.Weight.SameCodes(format.Float8Block) }
func (p Part) int4() bool       { return p.Weight.Type == format.Int && p.Weight.Bits == 4 }
func (p Part) int8() bool       { return p.Weight.SameCodes(format.Int8) }
func (p Part) floatInput() bool { return p.Acts.Type == format.Float }
func (p Part) weightOnly() bool { return p.Weight.Quantized() && !p.Acts.Quantized() }
