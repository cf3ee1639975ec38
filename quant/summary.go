package quant

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/quant/layout"
)

// Row is one line of a plan's summary: what happens to one kind of tensor.
type Row struct {
	Kind    string
	Tensors int // of the source
	Scheme  string
	Source  int64 // bytes
	Result  int64
	Note    string
}

// kindOf sorts tensors into the lines of a summary.
func kindOf(it *Item) string {
	t := it.Weight.Tensor
	r := t.Role
	switch {
	case it.Action == Make:
		return "int8 caches"
	case t.MTP:
		return fmt.Sprintf("MTP layer %d", t.Layer)
	case it.Action == Drop:
		return "left out"
	case r.IsVision():
		return "vision tower"
	case r.IsExpert():
		return "routed experts"
	case t.Param == "weight" && r.IsLinear() && it.Action == Quantize:
		return "attention, dense, shared"
	case t.Param == "weight" && r.IsLinear():
		return "linears kept as they are"
	case t.Param == "bias" && r.IsAttention():
		return "attention, dense, shared"
	}
	return "router, embeddings, norms"
}

// kindOrder is the order of the lines.
var kindOrder = []string{"routed experts", "attention, dense, shared", "linears kept as they are", "router, embeddings, norms",
	"vision tower", "int8 caches", "MTP layer", "left out"}

// Rows summarises the plan by kind and scheme.
func (p *Plan) Rows() []Row {
	rows := map[string]*Row{}
	var keys []string
	for i := range p.Items {
		it := &p.Items[i]
		kind := kindOf(it)
		row := rows[kind]
		if row == nil {
			row = &Row{Kind: kind}
			rows[kind], keys = row, append(keys, kind)
		}
		switch it.Action {
		case Alias:
			row.Note = "+ embed_tokens, shared_head.head"
		case Make:
			row.Note = "made"
		default:
			row.Tensors++
			row.Source += it.Bytes
		}
		row.Result += it.Written
		if it.Action == Quantize || row.Scheme == "" && it.Weight.Tensor.Param == "weight" {
			row.Scheme = mergeSchemes(row, it.Scheme)
		}
		if it.Action == Drop {
			row.Scheme, row.Note = "dropped", it.Reason
		}
	}
	rank := func(k string) int {
		return slices.IndexFunc(kindOrder, func(o string) bool { return strings.HasPrefix(k, o) })
	}
	slices.SortStableFunc(keys, func(a, b string) int { return rank(a) - rank(b) })
	out := make([]Row, len(keys))
	for i, k := range keys {
		out[i] = *rows[k]
	}
	return out
}

// mergeSchemes lists the distinct schemes of a line; the quantised ones hide
// the source's own type.
func mergeSchemes(row *Row, scheme string) string {
	switch {
	case row.Scheme == "" || row.Scheme == "BF16" || row.Scheme == "F16" || row.Scheme == "F32":
		return scheme
	case slices.Contains(strings.Split(row.Scheme, " + "), scheme):
		return row.Scheme
	}
	return row.Scheme + " + " + scheme
}

// Summary is the plan for a person: one line a kind, totals, what is not as
// one might expect.
func (p *Plan) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s → %s (%s)\n\n", p.Scheme, p.Format, p.why())
	fmt.Fprintf(&b, "  %-26s %9s  %-26s %10s %10s\n", "what", "tensors", "scheme", "source", "result")
	for _, r := range p.Rows() {
		line := fmt.Sprintf("  %-26s %9s  %-26s %10s %10s   %s", r.Kind, progress.Thousands(int64(r.Tensors)), r.Scheme,
			progress.Bytes(r.Source), progress.Bytes(r.Result), r.Note)
		fmt.Fprintln(&b, strings.TrimRight(line, " "))
	}
	fmt.Fprintf(&b, "  %-26s %9s  %-26s %10s %10s\n\n", "", "", "", progress.Bytes(p.SourceBytes), progress.Bytes(p.ResultBytes))
	for _, k := range p.kept() {
		fmt.Fprintln(&b, "  kept          "+k)
	}
	for _, n := range p.Notes {
		fmt.Fprintln(&b, "  note          "+safetext.Line(n))
	}
	if p.Mixed != nil {
		fmt.Fprintf(&b, "\n%s\n", p.Mixed)
	}
	fmt.Fprintf(&b, "  files         %d shards, %d other files, index, manifest\n", len(p.Files), len(p.Sidecars)+len(p.Configs))
	return b.String()
}

// why says where the format comes from.
func (p *Plan) why() string {
	def := layout.DefaultFormat(p.Scheme, p.Config)
	var also []string
	for _, f := range layout.Formats {
		if f != p.Format && layout.Supported(p.Scheme, f) == nil {
			also = append(also, string(f))
		}
	}
	s := "as asked"
	if def == p.Format {
		s = "default for " + string(p.Config.Family)
	}
	if len(also) > 0 {
		s += "; " + strings.Join(also, ", ") + " also possible"
	}
	return s
}

// kept lists weights that stay only because a dimension, a rule of their unit
// or the user says so, one line a reason.
func (p *Plan) kept() []string {
	type reason struct {
		first string
		n     int
	}
	found := map[string]*reason{}
	var order []string
	for i := range p.Items {
		it := &p.Items[i]
		t := it.Weight.Tensor
		if it.Action != Copy || !t.Role.IsLinear() || t.Param != "weight" || t.MTP && p.Options.MTP != layout.MTPQuantize {
			continue
		}
		key := it.Reason
		if found[key] == nil {
			found[key] = &reason{first: t.Module}
			order = append(order, key)
		}
		found[key].n++
	}
	var out []string
	for _, k := range order {
		r := found[k]
		more := ""
		if r.n > 1 {
			more = fmt.Sprintf(" and %s more", progress.Thousands(int64(r.n-1)))
		}
		out = append(out, fmt.Sprintf("%s%s: %s", r.first, more, k))
	}
	return out
}
