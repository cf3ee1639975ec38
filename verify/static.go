package verify

import (
	"context"
	"slices"
	"strings"
	"time"

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

	folders *folders // that are open; nil: none
	basis   *basis   // the source as the result was rotated; nil: as it is
	part    part     // whose weights and files are read
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
	e, err := gather(ctx, src, dst, &o)
	if err != nil {
		return nil, err
	}
	r := e.judge()
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// examine checks the result and compares its weights with those of from.
// unchecked is the error of check, err that of the comparison.
func (r *Result) examine(ctx context.Context, f *folders, from, dst string, o *StaticOptions) (c *check.Report, d *diff.Report, s *smoothing, unchecked, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	checked := make(chan struct{})
	go func() { // a file is hashed on one core: the weights are compared meanwhile
		defer close(checked)
		if c, unchecked = check.Run(ctx, dst, check.Options{Workers: o.Workers, Copies: true, Open: f.whatever, Part: o.part.Index, Parts: o.part.Count}); unchecked != nil {
			cancel()
		}
	}()
	moved, s := r.folds(ctx, f, from, dst, o)
	own, err := r.rounders(ctx, f, from, dst, moved)
	own = o.basis.rounders(own)
	if err == nil {
		d, err = diff.Run(ctx, from, dst, diff.Options{Workers: o.Workers, Progress: o.Progress, Rounder: own, Finite: true, Grid: true,
			Folds: moved.powers, Factors: moved.factors, Open: f.whole, Part: o.part.Index, Parts: o.part.Count})
	}
	<-checked
	return c, d, s, unchecked, err
}

// findings takes what check has found in the result. A weight file that cannot
// be read hides its tensors: that they are missing is no finding of its own.
func (r *Result) findings(c *check.Report) (unreadable bool) {
	r.Bytes += c.Read
	r.Exact.CheckOK, r.Exact.ConfigAgrees, r.Exact.MTPComplete = c.OK, true, true
	unreadable = slices.ContainsFunc(c.Findings, func(f check.Finding) bool { return hides[f.Code] })
	for _, f := range c.Findings {
		if f.Severity != check.Error && !serious[f.Code] && !unread(f) || unreadable && hidden[f.Code] {
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

// serious are warnings of check that a result of quantize cannot have. The
// scale of one input cannot be two numbers, whatever tool wrote it. A router
// bias that is not F32 is none: the source may have it so, and where it has not
// the values differ.
var serious = map[string]bool{"scale-not-bf16": true, "input-scale-unshared": true}

// unread reports whether a finding is of a part of the declaration that decides
// what engines compute, and that the comparison did not take into account: a
// result with it is not what was compared. Caches hold no weights.
func unread(f check.Finding) bool {
	if f.Code != "quant-config-not-judged" {
		return f.Code == "quant-method-unknown" || f.Code == "description-scheme"
	}
	for _, cache := range []string{"kv_cache", "kv_quant", "fa_quant_type", "indexer_quant_type", "cache"} {
		if strings.Contains(f.Where, cache) {
			return false
		}
	}
	return true
}

func (r *Result) fail(check, where, detail string) {
	r.Failed = append(r.Failed, Failed{check, where, detail})
}

// compareCompanions judges what lies beside the weights. What matters fails,
// the rest is noted.
func (r *Result) compareCompanions(list []companion.Difference, c *check.Report, unreadable bool) {
	named := unreadable
	for _, d := range list {
		uncast := d.ElementType() && slices.ContainsFunc(c.Findings, func(f check.Finding) bool { return f.Code == "config-dtype" && f.Severity != check.Info })
		if !d.Matters && !uncast {
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
}
