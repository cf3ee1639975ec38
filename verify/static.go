package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/companion"
	"github.com/glmconv/glmconv/verify/diff"
)

// StaticOptions say how Static works. The zero value is the default.
type StaticOptions struct {
	Workers int // goroutines that read; 0: one a core
	// Progress receives the bytes compared so far, the bytes to compare and
	// "weights". It may be nil; it is called from several goroutines, one at a
	// time.
	Progress func(done, total int64, detail string)
}

// Static compares the result in dst with the source in src without a forward
// pass: check's findings, every tensor accounted for, copies equal in value,
// the config's model keys unchanged, and every quantised weight as read back
// from the files against our own rounding of the source, made for the purpose
// with the manifest's scheme and arithmetic. Without a manifest the arithmetic
// is not known, and the limit is what the encoding can cost at worst. Tokens is
// 0 in the Result.
//
// The error says that a directory could not be read at all; a bad result is
// none, but a Fail.
func Static(ctx context.Context, src, dst string, o StaticOptions) (*Result, error) {
	start := time.Now()
	r := empty(src, dst)
	// A file is hashed on one core: the weights are compared meanwhile.
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var c *check.Report
	var unchecked error
	checked := make(chan struct{})
	go func() {
		defer close(checked)
		if c, unchecked = check.Run(inner, dst, check.Options{Workers: o.Workers}); unchecked != nil {
			cancel()
		}
	}()
	var d *diff.Report
	own, err := r.rounders(inner, src, dst, o.Workers)
	if err == nil {
		d, err = diff.Run(inner, src, dst, diff.Options{Workers: o.Workers, Progress: o.Progress, Rounder: own, Finite: true, Grid: true})
	}
	<-checked
	if unchecked != nil {
		return nil, unchecked
	}
	unreadable := r.findings(c)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, layout.ErrMalformed):
		r.fail("exact", "", err.Error())
	case err != nil && (c.OK || errors.Is(err, safetensors.ErrIO) || errors.Is(err, safetensors.ErrChanged)):
		return nil, err
	case err == nil:
		r.Bytes += d.Bytes
		if c.Rotated && len(d.Changed) > d.Same {
			r.compareRotated(d)
		} else {
			r.compareTensors(dst, d)
		}
	}
	if err := r.compareCompanions(src, dst, unreadable); err != nil {
		return nil, err
	}
	if len(r.Failed) > 0 {
		r.Verdict = Fail
		if r.Cause == "" {
			f := r.Failed[0]
			r.Cause = strings.TrimSpace(f.Where + " " + f.Detail)
		}
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// findings takes what check has found in the result. A weight file that cannot
// be read hides its tensors: that they are missing is no finding of its own.
func (r *Result) findings(c *check.Report) (unreadable bool) {
	r.Bytes += c.Read
	r.Exact.CheckOK, r.Exact.ConfigAgrees, r.Exact.MTPComplete = c.OK, true, true
	unreadable = slices.ContainsFunc(c.Findings, func(f check.Finding) bool { return hides[f.Code] })
	for _, f := range c.Findings {
		if f.Severity != check.Error && !serious[f.Code] || unreadable && hidden[f.Code] {
			continue
		}
		r.fail("exact", f.Where, f.Detail)
		if hides[f.Code] && r.Cause == "" {
			r.Cause = strings.TrimSpace(f.Where + ": " + f.Detail)
		}
		if strings.Contains(f.Code, "mtp") {
			r.Exact.MTPComplete = false
		}
		if strings.Contains(f.Code, "config") || strings.Contains(f.Code, "description") || f.Code == "engine-misreads" {
			r.Exact.ConfigAgrees = false
		}
	}
	if !c.OK && r.Cause == "" {
		r.Cause = c.Cause
	}
	return unreadable
}

// hides are findings of files whose tensors cannot be seen, hidden what follows
// from that.
var (
	hides  = map[string]bool{"shard-invalid": true, "shard-truncated": true, "shard-missing": true}
	hidden = map[string]bool{"tensor-missing": true, "router-bias-missing": true, "mtp-incomplete": true, "config-mtp-absent": true,
		"companion-missing": true, "index-tensor-missing": true, "index-total-size": true, "config-not-quantized": true}
)

// serious are warnings of check that a result of quantize cannot have. A router
// bias that is not F32 is none: the source may have it so, and where it has not
// the values differ.
var serious = map[string]bool{"scale-not-bf16": true}

func (r *Result) fail(check, where, detail string) {
	r.Failed = append(r.Failed, Failed{check, where, detail})
}

func (r *Result) compareTensors(dst string, d *diff.Report) {
	recorded, dropped := map[string]float64{}, map[string]string{}
	if m, err := quant.ReadManifest(dst); err == nil {
		for _, t := range m.Tensors {
			recorded[strings.TrimSuffix(t.Name, ".weight")] = t.Relative
		}
		dropped = m.Dropped
		r.Identity.Scheme, r.Identity.Format = string(m.Scheme), string(m.Format)
	}
	r.Oracle.Exact = len(recorded) > 0 || r.Oracle.Inferred
	quantized, compared := map[string]bool{}, map[string]bool{}
	for _, m := range d.Modules {
		compared[m.Name] = true
		own, limit := 0.0, 0.0
		if m.B.Quantized() {
			quantized[m.Name] = true
			r.Exact.Quantized++
			r.Oracle.Modules++
			var known bool
			switch own, known = recorded[m.Name]; {
			case m.Own != nil:
				r.Oracle.Computed = true
				own, limit = float64(m.Own.Relative), math.Inf(1)
				r.compareOwn(m)
			case known:
				limit = own*1.005 + 1e-6
			case m.Grid != nil:
				own, limit = float64(m.Grid.Nearest), farthest*float64(m.Grid.Nearest)+1e-6
				r.judgeGrid(m)
			default:
				own, limit = 0, 0 // nothing of it could be read
			}
		}
		t := Tensor{Name: m.Name, Encoding: m.B.String(), Stored: m.B, Relative: float64(m.Relative), Own: own, Max: float64(m.MaxAbs), Elements: m.Elements}
		r.Tensors = append(r.Tensors, t)
		if t.Relative <= limit { // false for NaN
			continue
		}
		if !m.B.Quantized() {
			r.Exact.Differing++
			r.fail("exact", m.Name, fmt.Sprintf("copied, and its values differ by %.3g of the source's", t.Relative))
			continue
		}
		if off := math.Abs(t.Relative - own); off > r.Oracle.MaxDiff || r.Oracle.Worst == "" {
			r.Oracle.MaxDiff, r.Oracle.Worst = off, m.Name
		}
		r.fail("oracle", m.Name, fmt.Sprintf("as %s it is %.3g away from the source, rounding alone costs %.3g", m.B, t.Relative, min(limit, max(own, 0))))
	}
	for _, name := range d.NonFinite {
		r.fail("exact", name, "has values that are NaN or infinite")
	}
	r.Exact.Copied = d.Same
	r.Exact.SourceTensors = d.Same + len(d.Changed) + len(d.Retyped) + len(d.Reshaped) + len(d.Removed)
	part := func(name string) bool { // belongs to a quantised module
		i := strings.LastIndexByte(name, '.')
		return i > 0 && quantized[name[:i]] && strings.HasPrefix(name[i+1:], "weight")
	}
	r.additions(d, compared)
	for _, x := range d.Removed {
		lost := slices.DeleteFunc(slices.Clone(x.Parts), func(m string) bool { return compared[m] || dropped[m+".weight"] != "" })
		switch {
		case part(x.Name):
		case len(lost) < len(x.Parts): // stacked there, single experts here
			for _, m := range lost {
				r.Exact.Lost++
				r.fail("exact", m, "is part of "+x.Name+" in the source and not in the result")
			}
			if slices.ContainsFunc(x.Parts, func(m string) bool { return dropped[m+".weight"] != "" }) {
				r.Exact.Dropped++
			}
		case dropped[x.Name] != "":
			r.Exact.Dropped++
		default:
			r.Exact.Lost++
			r.fail("exact", x.Name, "is in the source and not in the result")
		}
	}
	for _, x := range slices.Concat(d.Changed, d.Retyped) {
		switch {
		case part(x.Name):
		case x.Same:
			r.Exact.Copied++
		default:
			r.Exact.Differing++
			r.fail("exact", x.Name, fmt.Sprintf("is %s, source is %s, and the values differ", x.B.DType, x.A.DType))
		}
	}
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
	if !(off <= ownLimit) {
		r.fail("oracle", m.Name, fmt.Sprintf("as %s it is %.3g away from our own rounding of the source (its error is %.3g, ours %.3g)", m.B, off, float64(m.Relative), float64(m.Own.Relative)))
	}
}

// compareCompanions compares what lies beside the weights. What matters fails,
// the rest is noted.
func (r *Result) compareCompanions(src, dst string, unreadable bool) error {
	list, err := companion.Compare(src, dst)
	if err != nil {
		return err
	}
	named := unreadable
	for _, d := range list {
		if !d.Matters {
			r.Notes = append(r.Notes, Note{d.Where(), d.Detail()})
			continue
		}
		if d.File == "config.json" {
			r.Exact.ConfigAgrees = false
			if !named { // what else was found of the tensors follows from it
				r.Cause, named = d.Where()+" "+d.Detail(), true
			}
		}
		r.fail("exact", d.Where(), d.Detail())
	}
	return nil
}
