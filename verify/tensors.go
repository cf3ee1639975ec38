package verify

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/diff"
)

// tensorJudge holds a result's tensors against the source's, by what differs
// between the two.
type tensorJudge struct {
	r         *Result
	recorded  map[string]float64 // errors that the manifest records, by module
	dropped   map[string]string  // tensors that were left out on request, and why
	quantized map[string]bool    // modules of the result
	compared  map[string]bool    // modules whose weights were compared
	coded     map[string]bool    // modules that the source has in codes, and whether the result has the same
	caches    []string           // scales of caches that the result leaves out
	check     *check.Report
	kinds     map[string]*pool   // weights whose rounding is not known
	smooth    map[string]float64 // limits of weights that take part in folds by any factors, by tensor
}

// compareTensors accounts for every tensor of the source, and judges copies,
// weights and additions.
func (r *Result) compareTensors(e *evidence) {
	d := e.Diff
	j := &tensorJudge{r: r, check: e.Check, recorded: map[string]float64{}, dropped: map[string]string{}, quantized: map[string]bool{}, compared: map[string]bool{},
		coded: map[string]bool{}, kinds: pools(d.Modules), smooth: e.Smooth}
	r.Failed = append(r.Failed, e.Faults...)
	if m := e.Manifest; m != nil {
		j.recorded, j.dropped = m.Recorded, m.Dropped
		r.Identity.Scheme, r.Identity.Format = m.Scheme, m.Format
	}
	r.Oracle.Exact = len(j.recorded) > 0 || r.Oracle.Inferred
	for _, m := range d.Modules {
		j.weight(m)
	}
	for _, name := range d.NonFinite {
		r.fail("exact", name, "has values that are NaN or infinite")
	}
	r.Exact.Copied = d.Same
	r.Exact.SourceTensors = d.Same + len(d.Changed) + len(d.Retyped) + len(d.Reshaped) + len(d.Removed)
	for _, x := range d.Removed {
		j.removed(x)
	}
	r.noteCaches(j.caches, "in the result", "the source has them for its caches, and a conversion leaves them out")
	for _, x := range slices.Concat(d.Changed, d.Retyped) {
		switch {
		case !x.Same && j.ofInput(x.Name):
			r.Exact.Differing++
			r.fail("exact", x.Name, "is not the source's, though the weight is stored as there: inputs are rounded otherwise")
		case j.part(x.Name):
		case x.Same, r.floats > 0 && j.compared[strings.TrimSuffix(x.Name, ".weight")], j.smooth[x.Name] > 0:
			r.Exact.Copied++
		default:
			r.Exact.Differing++
			r.fail("exact", x.Name, fmt.Sprintf("is %s, source is %s, and the values differ", x.B.DType, x.A.DType))
		}
	}
	r.additions(e, j.compared)
}

// part reports whether a tensor belongs to a module that is quantized on
// either side: codes, scales, or the values that they became. Beside a weight
// that the source has in codes that is everything but the module's bias: what
// tools store there is of their own quantization.
func (j *tensorJudge) part(name string) bool {
	module, param := glm.ModuleOf(name)
	if !j.quantized[module] {
		return false
	}
	_, coded := j.coded[module]
	return strings.HasPrefix(param, "weight") || layout.BesideCodes(param) || coded && param != "bias"
}

// idle reports whether a tensor of the source belongs to codes that its module
// does not have: what a tool left beside a weight in full precision.
func (j *tensorJudge) idle(name string) bool {
	module, param := glm.ModuleOf(name)
	return j.compared[module] && !j.quantized[module] && layout.BesideCodes(param)
}

// ofInput reports whether a tensor says how the inputs of a weight are rounded
// that both sides have in the same codes.
func (j *tensorJudge) ofInput(name string) bool {
	module, param := glm.ModuleOf(name)
	return j.coded[module] && (strings.HasPrefix(param, "input_") || param == "quant_bias")
}

// weight judges a module whose weight is stored otherwise, or has other values.
func (j *tensorJudge) weight(m diff.Module) {
	r := j.r
	j.compared[m.Name] = true
	own, limit := j.limit(m)
	if m.A.Quantized() {
		j.quantized[m.Name] = true // its codes and scales have become others, or values
		j.coded[m.Name] = m.Why == "" && m.A == m.B && m.Relative == 0
	}
	t := Tensor{Name: m.Name, Encoding: m.B.String(), Stored: m.B, Source: m.A, Relative: float64(m.Relative), Own: own, Max: float64(m.MaxAbs), Elements: m.Elements}
	r.Tensors = append(r.Tensors, t)
	switch {
	case m.Why != "":
		r.fail("exact", m.Name, m.Why)
	case m.A.Quantized() && !m.B.Quantized():
		if r.Exact.Copied++; m.Unrounded > 0 || !(t.Relative <= 1) {
			r.Exact.Copied--
			r.Exact.Differing++
			r.fail("exact", m.Name, fmt.Sprintf("%d of %d values are not the source's %s weight decoded and rounded once to %s (relative difference %.3g)",
				m.Unrounded, m.Elements, m.A, m.B, t.Relative))
		}
	case t.Relative <= limit: // false for NaN
	case !m.B.Quantized():
		r.Exact.Differing++
		where, how := m.Name, "copied, and its values differ by %.3g of the source's"
		if r.turned {
			how = "not quantized, and its values differ by %.3g of the source's in the same basis"
		}
		if where+".weight" == layout.DraftRotation {
			where = layout.DraftRotation
		}
		r.fail("exact", where, fmt.Sprintf(how, t.Relative))
	default:
		if off := math.Abs(t.Relative - own); off > r.Oracle.MaxDiff || r.Oracle.Worst == "" {
			r.Oracle.MaxDiff, r.Oracle.Worst = off, m.Name
		}
		r.fail("oracle", m.Name, fmt.Sprintf("as %s it is %.3g away from the source, rounding alone costs %.3g", m.B, t.Relative, min(limit, max(own, 0))))
	}
}

// limit returns the error of a module's own rounding, or the nearest to it that
// is known, and the largest that its weight may have.
func (j *tensorJudge) limit(m diff.Module) (own, limit float64) {
	r := j.r
	if !m.B.Quantized() {
		return 0, max(r.floats, j.smooth[m.Name+".weight"])
	}
	j.quantized[m.Name] = true
	r.Exact.Quantized++
	r.Oracle.Modules++
	own, known := j.recorded[m.Name]
	switch {
	case m.Own != nil:
		r.Oracle.Computed = true
		r.compareOwn(m)
		return float64(m.Own.Relative), math.Inf(1)
	case known:
		return own, own*1.005 + 1e-6
	case m.Grid != nil:
		r.judgeGrid(m, j.kinds[m.B.String()].learnt())
		return float64(m.Grid.Nearest), farthestOf(m) + 1e-6
	}
	return 0, 0 // nothing of it could be read
}

// removed judges a tensor of the source that the result does not have under
// its name.
func (j *tensorJudge) removed(x diff.Tensor) {
	r := j.r
	left := func(module string) bool { return j.dropped[module+".weight"] != "" }
	lost := slices.DeleteFunc(slices.Clone(x.Parts), func(m string) bool { return j.compared[m] || left(m) })
	switch {
	case j.part(x.Name):
	case len(lost) < len(x.Parts): // stacked there, single experts here
		for _, m := range lost {
			r.Exact.Lost++
			r.fail("exact", m, "is part of "+x.Name+" in the source and not in the result")
		}
		if slices.ContainsFunc(x.Parts, left) {
			r.Exact.Dropped++
		}
	case j.dropped[x.Name] != "":
		r.Exact.Dropped++
	case ofCache(x.Name):
		r.Exact.Dropped++
		j.caches = append(j.caches, x.Name)
	case j.idle(x.Name):
		r.Exact.Dropped++
		r.Notes = append(r.Notes, Note{x.Name, "is not in the result; the source's weight is not in codes, and nothing uses it"})
	case x.CopyOf != "":
		r.shared(x, j.check)
	default:
		r.Exact.Lost++
		r.fail("exact", x.Name, "is in the source and not in the result")
	}
}

// shared notes a copy of the MTP layer that the result leaves out, though nothing
// is lost by it: the model has the same values. What engines do without the copy
// is what check has found.
func (r *Result) shared(x diff.Tensor, c *check.Report) {
	r.Exact.Shared++
	said := "is left out, and " + x.CopyOf + " has the same bytes"
	for _, f := range c.Findings {
		if f.Code == "mtp-copy-missing" && f.Where == x.Name {
			said += ": " + f.Detail
		}
	}
	r.Notes = append(r.Notes, Note{x.Name, said})
}

// ownLimit is how far a weight may be from our own rounding of it: both are the
// same values, up to a last bit of a scale.
const ownLimit = 1e-5

// compareOwn judges a weight by our own rounding of the source.
func (r *Result) compareOwn(m diff.Module) {
	off := float64(m.Own.Off)
	if r.Oracle.Worst == "" || off > r.Oracle.MaxDiff {
		r.Oracle.MaxDiff, r.Oracle.Worst = off, m.Name
	}
	// Another tool may compute the same rounding in other steps: codes that lie
	// between two differ then, many where a scale and the weights are short
	// numbers, and the error does not.
	tie := r.Oracle.Inferred && off <= float64(m.Own.Relative) && float64(m.Relative) <= 1.0005*float64(m.Own.Relative)
	if !(off <= ownLimit) && !tie {
		r.fail("oracle", m.Name, fmt.Sprintf("as %s it is %.3g away from our own rounding of the source (its error is %.3g, ours %.3g)", m.B, off, float64(m.Relative), float64(m.Own.Relative)))
	}
}
