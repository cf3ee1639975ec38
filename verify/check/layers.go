package check

import (
	"context"
	"math"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/safetensors"
)

// small is what is seen of a bias or gain of one layer.
type small struct {
	row      glm.Tensor
	n        int64
	bad      tally
	first    float32
	constant bool  // every value is the first
	run      int64 // the longest stretch of zeros
	at       int64 // where it begins
}

// emptied reports whether so much of the tensor is zero that the rest cannot be
// told from one that was never filled.
func (x *small) emptied() bool { return x.run == x.n || x.run >= max(16, x.n/8) }

// layers compares the biases and gains of a model with those of the same name in
// its other layers: each by itself may be zero or of one value rightly.
type layers struct{ seen []*small }

// smallest is from how many values on a tensor is compared.
const smallest = 4

// layerJobs read the vectors of all layers, when every weight is read anyway;
// router biases always are.
func (s *subject) layerJobs(l *layers) (jobs []job) {
	if s.ckpt == nil {
		return nil
	}
	for _, row := range s.rows {
		t, ok := s.tensors[row.Name]
		if !ok || len(t.Shape) != 1 || row.Layer < 0 || !isFloat(t.DType) || t.DType == safetensors.F64 || t.Elements() < smallest || !s.opts.Weights && row.Role != glm.RouterBias {
			continue
		}
		x := &small{row: row, n: t.Elements(), constant: true}
		l.seen = append(l.seen, x)
		jobs = append(jobs, job{t.Size, func(ctx context.Context) ([]Finding, error) {
			if err := s.eachFloat(ctx, t, x.add()); err != nil {
				return nil, err
			}
			if x.bad.n > 0 && row.Param == "bias" { // of others valueJobs tell
				return []Finding{found("weight-nonfinite", t.Name, describe(x.bad, t))}, nil
			}
			return nil, nil
		}})
	}
	return jobs
}

// add takes the values one by one.
func (x *small) add() func(i int64, v float32) {
	zeros := int64(0)
	return func(i int64, v float32) {
		if i == 0 {
			x.first = v
		}
		if v != v || math.IsInf(float64(v), 0) {
			x.bad.note(i, v)
		}
		x.constant = x.constant && v == x.first
		if v != 0 {
			zeros = 0
			return
		}
		if zeros++; zeros > x.run {
			x.run, x.at = zeros, i+1-zeros
		}
	}
}

// findings names what is empty, or of one value, in few layers and not in the
// others. Where no layer has it otherwise, it is the model's own.
func (l *layers) findings(ascend bool) (out []Finding) {
	groups := map[string][]*small{}
	var names []string
	for _, x := range l.seen {
		key := origin.LayerName(&x.row)
		if groups[key] == nil {
			names = append(names, key)
		}
		groups[key] = append(groups[key], x)
	}
	for _, name := range names {
		odd := func(x *small) bool { return x.emptied() || x.constant && !(ascend && x.first == 1) }
		// A draft may be trained apart from the trunk, or not yet: it tells of the others, and not they of it.
		list := slices.DeleteFunc(groups[name], func(x *small) bool { return x.row.MTP && odd(x) })
		var lone []*small
		for _, x := range list {
			if odd(x) {
				lone = append(lone, x)
			}
		}
		if !origin.Few(len(lone), len(list)) {
			continue
		}
		for _, x := range lone {
			out = append(out, *x.finding(len(list) - len(lone)))
		}
	}
	return out
}

func (x *small) finding(others int) *Finding {
	what := sprintf("all %d values are %g", x.n, x.first)
	if !x.constant {
		what = sprintf("%d of its %d values in a row are 0, from index %d on", x.run, x.n, x.at)
	}
	f := found("layer-unlike", x.row.Name, sprintf("%s; in %d other layers it has values of its own", what, others))
	return &f
}

// fused tells whether norms were put into what reads them: one that is 1
// throughout is in no trained model.
func (l *layers) fused() bool {
	return slices.ContainsFunc(l.seen, func(x *small) bool {
		return isNorm(x.row.Role) && x.row.Param == "weight" && x.constant && x.first == 1
	})
}

// tellLayers adds what the layers show, in place of what one by itself does.
func (s *subject) tellLayers(l *layers) {
	said := map[string]string{}
	for _, f := range s.report.Findings {
		said[f.Where] = f.Code
	}
	named := map[string]Finding{}
	for _, f := range l.findings(s.ascend) {
		switch said[f.Where] {
		case "weight-zero", "zero-region":
		case "router-bias-zero", "norm-constant":
			named[f.Where] = f
		default:
			s.report.Findings = append(s.report.Findings, f)
		}
	}
	for i := range s.report.Findings {
		switch f := &s.report.Findings[i]; f.Code {
		case "norm-constant":
			if x, ok := named[f.Where]; ok {
				*f = x
			}
		case "router-bias-zero":
			if x, ok := named[f.Where]; ok {
				f.as(Error).Detail = x.Detail
			}
		}
	}
}
