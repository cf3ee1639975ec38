package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/companion"
	"github.com/glmconv/glmconv/verify/diff"
)

// evidence is everything that was read of two folders without a forward pass.
// Judging it reads nothing more, so that it may be kept, and put together from
// parts, before it is judged.
type evidence struct {
	Source, Result string // the folders

	Check     *check.Report
	Diff      *diff.Report // nil: the weights could not be compared
	Malformed string       // why, where that is the result's fault
	Beside    []companion.Difference
	Manifest  *recordedOf // nil: there is none
	Copies    dict[copied]
	Turns     bool // the source's draft has a place for rot.weight, in a rotated Ascend folder

	Based  bool          // the source was rotated as the result is
	Floats float64       // how far copied weights may be from the source's
	Smooth dict[float64] // how far weights may be that take part in folds by any factors, by tensor
	Faults []Failed      // of these folds
	Notes  []Note
	Oracle Oracle // what is known of the rounding
	Read   int64  // bytes, beside those of Check and Diff
}

// recordedOf is what a manifest says that the comparison is held to.
type recordedOf struct {
	Recorded       dict[float64] // errors of weights by module
	Dropped        dict[string]  // tensors that were left out on request, and why
	Scheme, Format string
}

// gather reads what judge judges, or this part's share of it. The error says
// that a folder could not be read at all.
func gather(ctx context.Context, src, dst string, o *StaticOptions) (*evidence, error) {
	if err := cmp.Or(misplaced(src), misplaced(dst)); err != nil {
		return nil, err
	}
	r := empty(src, dst) // takes notes and what is known of the rounding
	from, f := src, o.folders
	if f == nil {
		f = &folders{}
		defer f.close() // on every way out
	}
	if err := cmp.Or(f.unread(src), f.unread(dst)); err != nil {
		return nil, err
	}
	if o.basis == nil {
		var why string
		if o.basis, why = openBasis(ctx, f, src, dst); why != "" {
			r.Notes = append(r.Notes, Note{"rotation", "is not known: " + why})
		}
		defer o.basis.close()
	}
	if o.folders == nil {
		defer f.close() // before what is mounted goes
	}
	e := &evidence{Source: src, Result: dst, Based: o.basis != nil}
	if o.basis != nil {
		from, e.Floats = o.basis.weights, o.basis.limit
		r.Notes = append(r.Notes, Note{"weights", "are rotated (QuaRot): they, states and drafts are compared with the source in the same basis, by the matrix that is " + o.basis.how})
		if o.basis.file != "" {
			r.Notes = append(r.Notes, Note{layout.RotationFile, o.basis.file + "; drafts that are turned by it (EAGLE3) read wrong states"})
		}
	}
	c, d, smooth, unchecked, err := r.examine(ctx, f, from, dst, o)
	if smooth != nil {
		e.Smooth, e.Faults = smooth.limits, smooth.failed
	}
	switch {
	case unchecked != nil:
		return nil, unchecked
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, layout.ErrMalformed), errors.Is(err, fold.ErrUnknown), errors.Is(err, fold.ErrRange):
		e.Malformed = err.Error()
	case err != nil && (c.OK || errors.Is(err, safetensors.ErrIO) || errors.Is(err, safetensors.ErrChanged)):
		return nil, err
	case err == nil:
		e.Diff = d
		e.readManifest()
		if cfg, err := glm.LoadConfig(src); err == nil {
			e.Turns = cfg.SparseAttention()
		}
		if o.part.first() {
			if err := e.compareCopies(f); err != nil {
				return nil, err
			}
		}
	}
	e.Check, e.Notes, e.Oracle, e.Read = c, r.Notes, r.Oracle, r.Bytes
	e.Beside, err = companion.Compare(ctx, src, dst)
	return e, err
}

func (e *evidence) readManifest() {
	m, err := quant.ReadManifest(e.Result)
	if err != nil {
		return
	}
	e.Manifest = &recordedOf{Recorded: map[string]float64{}, Dropped: m.Dropped, Scheme: string(m.Scheme), Format: string(m.Format)}
	for _, t := range m.Tensors {
		e.Manifest.Recorded[strings.TrimSuffix(t.Name, ".weight")] = t.Relative
	}
}

// judge is the verdict on what was gathered.
func (e *evidence) judge() *Result {
	r := empty(e.Source, e.Result)
	r.Notes, r.Oracle, r.Bytes, r.floats, r.turned, r.smooth = append(r.Notes, e.Notes...), e.Oracle, e.Read, e.Floats, e.Based, len(e.Smooth) > 0
	unreadable := r.findings(e.Check)
	switch {
	case e.Malformed != "":
		r.fail("exact", "", e.Malformed)
	case e.Diff != nil:
		r.Bytes += e.Diff.Bytes
		if e.Based || !e.Check.Rotated {
			r.damagedFiles(e.Diff, unreadable)
			r.damagedLayers(e.Diff)
		}
		if !e.Based && e.Check.Rotated && len(e.Diff.Changed) > e.Diff.Same {
			r.compareRotated(e.Diff, e.Check)
		} else {
			r.compareTensors(e)
		}
		if !e.Based && !r.Exact.Rotated && e.Manifest == nil {
			r.judgeLearnt(e.Diff.Modules)
		}
	}
	r.compareCompanions(e.Beside, e.Check, unreadable)
	if len(r.Failed) > 0 {
		r.Verdict = Fail
		if r.Cause == "" {
			f := r.Failed[0]
			r.Cause = strings.TrimSpace(f.Where + " " + f.Detail)
		}
	} else if r.Oracle.NotJudged {
		r.undecided(fmt.Sprintf("the codes of %s and others may have been learnt or be noise, and nothing without a forward pass tells which", r.Oracle.Worst))
	}
	return r
}

// join puts together what the parts of one comparison have gathered, in their
// order.
func join(parts []*evidence) *evidence {
	e := *parts[0]
	var checks []*check.Report
	var diffs []*diff.Report
	e.Read, e.Copies, e.Malformed = 0, nil, ""
	for _, p := range parts {
		checks = append(checks, p.Check)
		if p.Diff != nil {
			diffs = append(diffs, p.Diff)
		}
		e.Read += p.Read
		if e.Malformed == "" {
			e.Malformed = p.Malformed
		}
		if p.Copies != nil {
			e.Copies = p.Copies
		}
		if e.Manifest == nil {
			e.Manifest = p.Manifest
		}
	}
	e.Check, e.Diff = check.Join(checks), nil
	if len(diffs) == len(parts) {
		e.Diff = diff.Join(diffs)
	}
	return &e
}

// narrowOf are the modules of a result whose weights and inputs have 4 bits or
// fewer.
func (e *evidence) narrowOf() map[string]bool {
	out := map[string]bool{}
	if e.Diff == nil {
		return out
	}
	inputs := inputsOf(e.Result)
	for _, m := range e.Diff.Modules {
		if w := m.B.Weight; !w.Quantized() || w.Bits > 4 {
			continue
		}
		if a := inputs(m.Name); a.Quantized() && a.Bits <= 4 {
			out[m.Name] = true
		}
	}
	return out
}

// orderedCopy is a copy of a list sorted by a number.
func orderedCopy[T any](list []T, number func(T) int) []T {
	return slices.SortedStableFunc(slices.Values(list), func(a, b T) int { return number(a) - number(b) })
}
