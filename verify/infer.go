package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/diff"
)

// rounders returns how the result's weights should have been rounded: by the
// scheme and arithmetic of its manifest, or by what a sample of them shows; nil
// if neither tells. It fills Oracle.Basis.
func (r *Result) rounders(ctx context.Context, f *folders, src, dst string, moved folding) (func(diff.Weight) diff.Rounder, error) {
	if m, err := quant.ReadManifest(dst); err == nil {
		if m.Method != "" { // each weight is held to the error that the conversion recorded of it
			r.Oracle.Basis = "manifest: codes learnt from text (" + m.Method + ")"
			return nil, nil
		}
		all, err := planned(f, src, m)
		if err != nil {
			r.Oracle.Basis = "none: the source cannot be converted as the manifest says: " + err.Error()
			return nil, nil //nolint:nilerr // said in the report
		}
		r.Oracle.Basis = "manifest"
		return func(w diff.Weight) diff.Rounder {
			if x, ok := all[w.Module]; ok {
				return x
			}
			return nil
		}, nil
	}
	return r.infer(ctx, f, src, dst, moved)
}

// planned are the rounders of the plan that a manifest describes.
func planned(f *folders, src string, m *quant.Manifest) (map[string]*quant.Rounder, error) {
	c, err := f.whole(src)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	o := quant.Options{GroupSize: m.GroupSize, MTP: layout.MTPMode(m.MTP), Rest: m.Rest, Inputs: m.Inputs, Lifted: m.Lifted, Requantize: true, AllowLossy: true}
	if m.Arith == "compat" {
		o.Arith = numeric.Compat
	}
	p, err := quant.NewPlan(c, m.Scheme, m.Format, o)
	if err != nil {
		return nil, err
	}
	return p.Rounders(), nil
}

// sampled is how many weights an arithmetic is inferred from.
const sampled = 24

// arithmetics are the ways of rounding that are tried on a result of another
// tool, by what they are called.
var arithmetics = []struct {
	arith numeric.Arith
	says  func(layout.Layout) string
}{
	{numeric.Compat, func(l layout.Layout) string { return "as " + l.Reference() }},
	{numeric.Best, func(layout.Layout) string { return "to nearest against the stored scales" }},
}

// infer finds out how a result without a manifest was rounded: a sample of its
// weights is compared with the source's in every arithmetic that is known for
// their layout. One that gives most of a kind to the last bit is theirs. Tools
// that learn codes from data (GPTQ, AWQ, AutoRound, smoothing) agree with none:
// then there is no oracle, and the report says so.
func (r *Result) infer(ctx context.Context, f *folders, src, dst string, moved folding) (func(diff.Weight) diff.Rounder, error) {
	names, err := sample(f, dst)
	if err != nil || len(names) == 0 {
		r.Oracle.Basis = "none: nothing is quantised in a layout that is known"
		return nil, nil //nolint:nilerr // check and diff say what is wrong
	}
	t := trial{open: f.whole, folds: moved, best: map[kind]score{}, count: map[kind]int{}, near: map[kind]float64{}}
	for _, a := range arithmetics {
		d, err := t.run(ctx, src, dst, names, a.arith)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			r.Oracle.Basis = "none: " + err.Error()
			return nil, nil //nolint:nilerr // the comparison of all weights says it again
		}
		r.Bytes += d.Bytes
	}
	chosen := t.chosen()
	r.Oracle.Basis = "no manifest"
	if said := t.says(chosen); said != "" {
		r.basis("%s", said)
	}
	if len(chosen) == 0 {
		return nil, nil
	}
	r.Oracle.Inferred = true
	return func(w diff.Weight) diff.Rounder {
		if a, ok := chosen[kind{w.Stored.Quant, w.Stored.Format}]; ok {
			return rounder(w, a)
		}
		return nil
	}, nil
}

// kind are weights that were rounded alike.
type kind struct {
	weight format.Weight
	format layout.Format
}

// score is an arithmetic with how many sampled weights it gives to the last bit.
type score struct {
	arith numeric.Arith
	hits  int
}

// trial tries arithmetics on a sample of weights.
type trial struct {
	open  func(dir string) (*safetensors.Checkpoint, error)
	folds folding // that the source is taken under
	best  map[kind]score
	count map[kind]int     // sampled weights
	near  map[kind]float64 // how far the nearest of them is from a rounding
}

// run rounds the sample in one arithmetic.
func (t *trial) run(ctx context.Context, src, dst string, names map[string]bool, arith numeric.Arith) (*diff.Report, error) {
	kinds := map[string]kind{}
	d, err := diff.Run(ctx, src, dst, diff.Options{Workers: 1, Open: t.open, Folds: t.folds.powers, Factors: t.folds.factors, Only: func(m string) bool { return names[m] }, Rounder: func(w diff.Weight) diff.Rounder {
		kinds[w.Module] = kind{w.Stored.Quant, w.Stored.Format}
		return rounder(w, arith)
	}})
	if err != nil {
		return nil, err
	}
	seen, hits := map[kind]int{}, map[kind]int{}
	for _, m := range d.Modules {
		k, ok := kinds[m.Name]
		if !ok || m.Own == nil {
			continue
		}
		seen[k]++
		off := float64(m.Own.Off)
		if off <= ownLimit {
			hits[k]++
		}
		if least, ok := t.near[k]; !ok || off < least {
			t.near[k] = off
		}
	}
	for k, n := range seen {
		t.count[k] = n
		if b, ok := t.best[k]; !ok || hits[k] > b.hits {
			t.best[k] = score{arith, hits[k]}
		}
	}
	return d, nil
}

// chosen are the arithmetics that give most of a kind.
func (t *trial) chosen() map[kind]numeric.Arith {
	out := map[kind]numeric.Arith{}
	for k, b := range t.best {
		if 2*b.hits > t.count[k] {
			out[k] = b.arith
		}
	}
	return out
}

// says tells for each kind what was inferred.
func (t *trial) says(chosen map[kind]numeric.Arith) string {
	var list []string
	for _, k := range slices.SortedFunc(maps.Keys(t.count), func(a, b kind) int { return strings.Compare(a.weight.String(), b.weight.String()) }) {
		arith, ok := chosen[k]
		if !ok {
			list = append(list, fmt.Sprintf("%s: no rounding known here gives its codes (the nearest of %d weights is %.2g away)", k.weight, t.count[k], t.near[k]))
			continue
		}
		for _, a := range arithmetics {
			if l, err := layout.For(roundedAs(k.format)); err == nil && a.arith == arith {
				list = append(list, fmt.Sprintf("%s: %s, inferred from %d weights", k.weight, a.says(l), t.count[k]))
			}
		}
	}
	return strings.Join(list, "; ")
}

// roundedAs is the format by whose rules weights are rounded. Quark's MX files,
// and those of the ascend layout, which look the same, have the exponents and
// values of llm-compressor's (docs/facts/formats.md 3.3).
func roundedAs(f layout.Format) layout.Format {
	if f == layout.Quark {
		return layout.CompressedTensors
	}
	return f
}

func rounder(w diff.Weight, a numeric.Arith) diff.Rounder {
	s := w.Stored
	if s.Quant.Scale == format.E8M0 {
		s.Format = roundedAs(s.Format)
	}
	x, err := quant.NewRounder(s, w.Source, a)
	if err != nil {
		return nil
	}
	return x
}

// sample chooses modules with codes, spread evenly over their names.
func sample(f *folders, dir string) (map[string]bool, error) {
	c, err := f.whole(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	var all []string
	for _, t := range c.Tensors() {
		module, param := glm.ModuleOf(t.Name)
		if _, err := layout.DecoderOf(t.DType); layout.HoldsWeight(param) && (err != nil || t.DType == safetensors.F8E4M3) {
			all = append(all, module)
		}
	}
	slices.Sort(all)
	out := map[string]bool{}
	n := min(sampled, len(all))
	for i := range n {
		out[all[(2*i+1)*len(all)/(2*n)]] = true
	}
	return out, nil
}
