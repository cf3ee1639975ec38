package verify

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/glmconv/glmconv/internal/share"
)

// part is what of a comparison a run does: part Index (from 1) of Count.
type part struct{ Index, Count int }

// whole is everything.
var whole = part{1, 1}

// first reports whether what is not divided is this part's to do.
func (p part) first() bool { return p.Index <= 1 }

// sequences are those of this part, by their lengths: a run of them, cut where
// tokens are even.
func (p part) sequences(lengths []int) (lo, hi int) {
	sizes := make([]int64, len(lengths))
	for i, n := range lengths {
		sizes[i] = int64(n)
	}
	return share.Cut(sizes, p.Index, p.Count)
}

// Partial is what one of several parts of a comparison has seen. [Merge] makes
// the verdict of all of them. It holds figures of each sequence, tensor and file,
// and nothing that was averaged.
type Partial struct {
	name string // of the file that it was read from
	content
}

// content is what the file of a partial holds.
type content struct {
	Version  string // of the tool
	Part     part
	Of       subject
	Observed observed
	Seconds  float64
}

// Part returns which part of how many this is, from 1.
func (p *Partial) Part() (index, count int) { return p.content.Part.Index, p.content.Part.Count }

// Folders returns the source and the result as the part was told them.
func (p *Partial) Folders() (src, dst string) {
	return p.Observed.Evidence.Source, p.Observed.Evidence.Result
}

// where names the partial in messages.
func (p *Partial) where() string {
	if p.name != "" {
		return p.name
	}
	return fmt.Sprintf("part %d of %d", p.content.Part.Index, p.content.Part.Count)
}

// ComparePart does part index (from 1) of count of what Compare does: its share
// of the weights, cut by the files of the source, its share of the hashes, and
// its sequences, through both models. Parts need nothing of each other; each
// reads both checkpoints for its forward pass. version is the tool's: parts of
// one comparison are of one version.
func ComparePart(ctx context.Context, src, dst string, o Options, index, count int, version string) (*Partial, error) {
	if index < 1 || index > count {
		return nil, &Error{"", fmt.Sprintf("part %d of %d does not exist", index, count), "parts are numbered from 1"}
	}
	o.part = part{index, count}
	if count == 1 {
		o.part = part{1, 0} // no other decides when to stop: all tokens are read
	}
	start := time.Now()
	of, err := o.subject(ctx, src, dst)
	if err != nil {
		return nil, err
	}
	s, err := o.observe(ctx, src, dst)
	if err != nil {
		return nil, err
	}
	if len(s.Forward) > 0 && len(s.Forward[0].Prefixes) > 0 {
		of.Tokens = s.Forward[0].Prefixes[len(s.Forward[0].Prefixes)-1]
	}
	return &Partial{content: content{Version: version, Part: part{index, count}, Of: of, Observed: *s, Seconds: time.Since(start).Seconds()}}, nil
}

// Merge is the verdict of all parts of a comparison, in whatever order they are
// given: that of one run, but for what was spent: seconds and bytes are those of
// all parts together. The error says that parts are missing, doubled or of different
// comparisons, or what Compare says of the two checkpoints.
func Merge(parts []*Partial) (*Result, error) {
	if len(parts) == 0 {
		return nil, &Error{"", "there is no part to merge", ""}
	}
	parts = orderedCopy(parts, func(p *Partial) int { return p.content.Part.Index })
	if err := complete(parts); err != nil {
		return nil, err
	}
	all := parts[0].Observed
	all.Narrow = maps.Clone(all.Narrow)
	var evidence []*evidence
	for _, p := range parts {
		evidence = append(evidence, p.Observed.Evidence)
		for m := range p.Observed.Narrow {
			all.Narrow[m] = true
		}
	}
	all.Evidence, all.Forward = join(evidence), nil
	for path := range parts[0].Observed.Forward {
		var passes []*forward
		for _, p := range parts {
			passes = append(passes, p.Observed.Forward[path])
		}
		all.Forward = append(all.Forward, joinForward(passes))
	}
	r, err := all.conclude()
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		r.Seconds += p.Seconds
	}
	return r, nil
}

// joinForward puts together the passes of parts in their order.
func joinForward(list []*forward) *forward {
	f := *list[0]
	f.Sequences, f.Tower, f.Read, f.Stage, f.Inputs = nil, nil, 0, finished, maps.Clone(f.Inputs)
	for i, x := range list {
		f.Sequences = append(f.Sequences, x.Sequences...)
		f.Tower = append(f.Tower, x.Tower...)
		f.Read += x.Read
		if i > 0 {
			f.addInputs(x.Inputs)
		}
		f.Threads = max(f.Threads, x.Threads)
		if x.Stage != finished && (f.Stage == finished || x.Stage < f.Stage) {
			f.Stage, f.Broken, f.Incomplete, f.err = x.Stage, x.Broken, x.Incomplete, x.err
		}
	}
	return &f
}

// complete reports whether parts, which are in order, are all of one comparison,
// each of them once.
func complete(parts []*Partial) error {
	one := parts[0]
	count := one.content.Part.Count
	for i, p := range parts {
		switch at := p.content.Part; {
		case at.Count != count:
			return &Error{p.where(), fmt.Sprintf("is part %d of %d, and %s is one of %d", at.Index, at.Count, one.where(), count), "merge the parts of one comparison"}
		case p.Version != one.Version:
			return &Error{p.where(), fmt.Sprintf("was made by version %s, %s by %s", p.Version, one.where(), one.Version), "all parts are to be made by one version"}
		case i > 0 && at.Index == parts[i-1].content.Part.Index:
			return &Error{p.where(), fmt.Sprintf("is part %d of %d, and so is %s", at.Index, count, parts[i-1].where()), "give each part once"}
		}
		if differs := one.Of.differs(p.Of); differs != "" {
			return &Error{p.where(), fmt.Sprintf("is of another comparison than %s: %s", one.where(), differs), "merge the parts of one comparison"}
		}
	}
	for i := range count {
		if i >= len(parts) || parts[i].content.Part.Index != i+1 {
			return &Error{one.where(), fmt.Sprintf("belongs to a comparison in %d parts, and part %d is missing", count, i+1), "give the files of all parts"}
		}
	}
	return one.consistent(parts)
}

// consistent reports whether the figures of the parts fit each other.
func (p *Partial) consistent(parts []*Partial) error {
	for _, x := range parts {
		if len(x.Observed.Forward) != len(p.Observed.Forward) {
			return &Error{x.where(), "has a forward pass that another part has not, or the other way round", ""}
		}
	}
	for path := range p.Observed.Forward {
		if err := p.follow(parts, path); err != nil {
			return err
		}
	}
	return nil
}

// follow reports whether the sequences of the parts follow each other, on one
// path.
func (p *Partial) follow(parts []*Partial, path int) error {
	f := p.Observed.Forward[path]
	next := 0
	for _, x := range parts {
		g := x.Observed.Forward[path]
		if g.Stage != finished && g.Stage != looking {
			return nil // what broke decides
		}
		for _, s := range g.Sequences {
			if s.Number != next || next >= len(f.Lengths) || len(s.Rows) != f.Lengths[next] {
				return &Error{x.where(), fmt.Sprintf("has sequence %d where sequence %d is expected", s.Number, next), ""}
			}
			next++
		}
	}
	if next != len(f.Lengths) {
		return &Error{p.where(), fmt.Sprintf("is of a comparison of %d sequences, and the parts have %d", len(f.Lengths), next), ""}
	}
	return nil
}
