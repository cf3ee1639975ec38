package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/glmconv/glmconv/verify"
)

// State of a check.
type state string

const (
	passed    state = "pass"
	failed    state = "fail"
	undecided state = "undecided"
	skipped   state = "none" // not measured
)

// check is one of the six checks of every report.
type check struct {
	ID, Title string
	State     state
	Line      string          // the figures, one line
	Figure    string          // the one figure of the strip
	Unit      string          // what the figure is
	Failed    []verify.Failed // its predicates that did not hold
}

// checks lists the six checks in order, and after them any the verdict names
// that are none of the six.
func checks(r *verify.Result) []check {
	list := []check{exact(r), oracle(r), budget(r), rails(r), layers(r), heads(r)}
	at := map[string]int{}
	for i := range list {
		at[list[i].ID] = i
	}
	for _, f := range r.Failed {
		id := home(r, f)
		i, ok := at[id]
		if !ok {
			i = len(list)
			at[id] = i
			list = append(list, check{ID: id, Title: clean(f.Check), Figure: "failed", Line: clean(f.Detail)})
		}
		list[i].State = failed
		list[i].Failed = append(list[i].Failed, f)
	}
	return list
}

// home is the check a failed predicate belongs to. "logits" covers both the
// budget and the guard rails: it goes where the figures say.
func home(r *verify.Result, f verify.Failed) string {
	id := strings.ToLower(f.Check)
	switch id {
	case "layer", "router", "routers":
		return "layers"
	case "tensor", "tensors", "weights", "files", "config", "check":
		return "exact"
	case "rails", "guard rails", "tail", "nrmse", "flips", "flip_rate", "p999":
		return "rails"
	case "kl", "tol":
		return "kl"
	case "logits":
		low := strings.ToLower(f.Where + " " + f.Detail)
		for _, word := range []string{"nrmse", "p99.9", "99.9", "flip", "top-1", "tail"} {
			if strings.Contains(low, word) && !strings.Contains(low, "mean kl") {
				return "rails"
			}
		}
		return "kl"
	}
	return id
}

func hasFailed(r *verify.Result, check string) bool {
	for _, f := range r.Failed {
		if strings.EqualFold(f.Check, check) {
			return true
		}
	}
	return false
}

func exact(r *verify.Result) check {
	e := r.Exact
	c := check{ID: "exact", Title: "Exact", State: passed, Figure: count(e.Lost + e.Differing), Unit: "tensors lost or altered"}
	if e.SourceTensors == 0 {
		c.State, c.Figure, c.Unit, c.Line = skipped, "–", "not measured", "not measured"
		return c
	}
	parts := []string{fmt.Sprintf("%s source tensors: %s copied bit for bit, %s quantised, %s lost", count(e.SourceTensors), count(e.Copied-min(e.Copied, e.Differing)), count(e.Quantized), count(e.Lost))}
	if e.Dropped > 0 {
		parts = append(parts, plural(e.Dropped, "tensor")+" dropped on purpose")
	}
	if e.Shared > 0 {
		parts = append(parts, count(e.Shared)+" of the MTP layer shared with the model")
	}
	if e.Differing > 0 {
		parts = append(parts, plural(e.Differing, "copy")+" differ")
		parts[len(parts)-1] = strings.Replace(parts[len(parts)-1], "copys", "copies", 1)
	}
	if e.ConfigAgrees {
		parts = append(parts, "config agrees with tensors")
	} else {
		parts = append(parts, "config and tensors disagree")
	}
	if e.MTPComplete {
		parts = append(parts, "MTP complete")
	} else if r.MTP != nil || hasFailed(r, "mtp") {
		parts = append(parts, "MTP incomplete")
	}
	c.Line = strings.Join(parts, " · ")
	if e.Lost+e.Differing > 0 || hasFailed(r, "exact") {
		c.State = failed
	}
	return c
}

func oracle(r *verify.Result) check {
	o := r.Oracle
	c := check{ID: "oracle", Title: "Oracle", State: passed, Figure: num(o.MaxDiff), Unit: "largest difference from own rounding"}
	switch {
	case o.Modules == 0:
		c.State, c.Figure, c.Unit, c.Line = skipped, "–", "nothing quantised", "nothing to compare"
	case hasFailed(r, "oracle"):
		c.State = failed
		c.Line = fmt.Sprintf("result differs from own rounding of the source: max %s at %s", num(o.MaxDiff), clean(o.Worst))
	case r.Exact.Rotated:
		c.State, c.Figure, c.Unit, c.Line = skipped, "–", "not measured: the result is rotated", "not measured"
	case !o.Computed && o.Exact:
		c.State, c.Figure, c.Unit = skipped, "–", "not rounded again: errors are held to those of the manifest"
		c.Line = fmt.Sprintf("%s as far from the source as the conversion recorded", plural(o.Modules, "module"))
	case !o.Computed && o.Nearest == o.Modules:
		c.Figure, c.Unit = "0", "codes that are not the nearest"
		c.Line = fmt.Sprintf("the codes of %s are the nearest to the source with the stored scales", plural(o.Modules, "module"))
	case !o.Computed:
		c.State, c.Figure, c.Unit = skipped, "–", "not measured: the rounding is not known"
		c.Line = fmt.Sprintf("not measured: the rounding of %s is not known; their errors are no larger than those of codes that were learnt", plural(o.Modules, "module"))
	case o.Exact:
		c.Line = fmt.Sprintf("result = own rounding of the source: max %s in %s", num(o.MaxDiff), plural(o.Modules, "module"))
	default:
		c.Line = fmt.Sprintf("result is as close to the source as own rounding: max difference %s in %s", num(o.MaxDiff), plural(o.Modules, "module"))
	}
	if o.Modules > 0 && o.Basis != "" && o.Basis != "manifest" {
		c.Line += " · " + clean(o.Basis)
	}
	return c
}

func budget(r *verify.Result) check {
	c := check{ID: "kl", Title: "KL budget", State: passed, Figure: num(r.KL.Upper95), Unit: "nats/token, 95 % bound; budget " + num(r.Tol)}
	if r.Tokens == 0 {
		c.State, c.Figure, c.Unit, c.Line = skipped, "–", "forward pass skipped", "forward pass skipped"
		return c
	}
	c.Line = fmt.Sprintf("mean KL %s nats/token, 95 %% bound %s, budget %s", num(r.KL.Mean), num(r.KL.Upper95), num(r.Tol))
	if r.KL.Noise > 0 {
		c.Line += ", noise floor " + num(r.KL.Noise)
	}
	switch r.Reference {
	case verify.ReferenceSource:
		c.Line += " · against the source as served, with its own rounding of activations"
	case verify.ReferenceWeights:
		c.Line += " · against the source's decoded weights, activations unrounded"
	}
	if s := r.Stopped; s != nil {
		c.Line += fmt.Sprintf(" · %s of %s read, which decide", count(s.Sequences), plural(s.Planned, "sequence"))
	}
	switch {
	case r.Verdict == verify.Undecided:
		c.State = undecided
	case !(r.KL.Upper95 <= r.Tol):
		c.State = failed
	}
	return c
}

func rails(r *verify.Result) check {
	c := check{ID: "rails", Title: "Guard rails", State: passed, Figure: percent(1 - r.FlipRate), Unit: "same top-1 token"}
	if r.Tokens == 0 {
		c.State, c.Figure, c.Unit, c.Line = skipped, "–", "forward pass skipped", "forward pass skipped"
		return c
	}
	c.Line = fmt.Sprintf("NRMSE %s · top-1 same %s · p99.9 KL %s · max %s", num(r.NRMSE), percent(1-r.FlipRate), num(r.KL.P999), num(r.KL.Max))
	p := r.Profile
	over := p.P999 > 0 && !(r.KL.P999 <= p.P999) || p.NRMSE > 0 && !(r.NRMSE <= p.NRMSE) || p.FlipRate > 0 && !(r.FlipRate <= p.FlipRate)
	if over && r.Verdict == verify.Fail {
		c.State = failed
	}
	return c
}

func layers(r *verify.Result) check {
	c := check{ID: "layers", Title: "Layers", State: passed, Figure: "–", Unit: "not measured", Line: "not measured"}
	if len(r.Layers) == 0 {
		c.State = skipped
		return c
	}
	worst := worstLayer(r.Layers)
	same, n := 0.0, 0
	for _, l := range r.Layers {
		if !math.IsNaN(l.RouterSame) {
			same += l.RouterSame
			n++
		}
	}
	c.Figure, c.Unit = percent(same/float64(n)), "of the experts chosen are the same"
	c.Line = fmt.Sprintf("worst %d (error %s) · same experts chosen %s", worst.Layer, num(worst.Error), percent(same/float64(n)))
	keys, chose := 0.0, 0
	for _, l := range r.Layers {
		if l.KeysSame > 0 && l.KeysSame < 1 {
			keys += l.KeysSame
			chose++
		}
	}
	if chose > 0 {
		c.Line += " · same keys chosen " + percent(keys/float64(chose))
	}
	return c
}

func heads(r *verify.Result) check {
	c := check{ID: "mtp", Title: "MTP", State: passed, Figure: "–", Unit: "no MTP layer measured", Line: "not measured"}
	if r.MTP == nil {
		c.State = skipped
		return c
	}
	s, q := r.MTP.Source, r.MTP.Result
	if len(q.Agreement) > 0 {
		c.Figure = percent(q.Agreement[0])
		c.Unit = "first drafts agree"
		if len(s.Agreement) > 0 {
			c.Unit += "; source " + percent(s.Agreement[0])
		}
	}
	c.Line = fmt.Sprintf("drafts agree with the model: %s (source %s) · length %s (%s)", series(q.Agreement), series(s.Agreement), num(q.Length), num(s.Length))
	return c
}

func series(v []float64) string {
	out := make([]string, len(v))
	for i, x := range v {
		out[i] = fmt.Sprintf("%.2f", x)
	}
	return strings.Join(out, " ")
}

// worstLayer is the layer with the largest error; NaN counts as the largest.
func worstLayer(list []verify.Layer) verify.Layer {
	w := list[0]
	for _, l := range list[1:] {
		if math.IsNaN(w.Error) {
			break
		}
		if l.Error > w.Error || math.IsNaN(l.Error) {
			w = l
		}
	}
	return w
}
