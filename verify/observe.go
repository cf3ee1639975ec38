package verify

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/glmconv/glmconv/verify/stats"
)

// observed is everything that a comparison, or a part of one, has read and
// computed: what conclude makes a verdict of. Nothing in it is a mean or a
// quantile, so that parts put together are what one run observes.
type observed struct {
	Evidence  *evidence
	Forward   []*forward // by path of an NPU, one where there are none; empty: left out
	Reference string
	Narrow    dict[bool] // modules with inputs of 4 bits
	Tol       float64    // asked for; 0: by the profile
	AllTokens bool
}

// observe does what is to be done of a comparison: all of it, or o.part.
func (o *Options) observe(ctx context.Context, src, dst string) (*observed, error) {
	o.setDefaults()
	f := &folders{}
	defer f.close()
	if err := f.sameModel(src, dst); err != nil {
		return nil, err
	}
	old := debug.SetMemoryLimit(max(o.MaxMemory/10*8, 64<<20)) // the rest is not the collector's to see; below, it would never rest
	defer debug.SetMemoryLimit(old)
	state, at := o.resume(ctx, f, src, dst)
	b, _ := openBasis(ctx, f, src, dst)
	defer b.close()
	defer f.close() // of what is mounted before it goes
	s := &observed{Tol: o.Tol, AllTokens: o.AllTokens}
	if at != nil {
		s.Evidence = at.Evidence
	} else {
		var err error
		if s.Evidence, err = gather(ctx, src, dst, &StaticOptions{Workers: o.Workers, Progress: o.Progress, folders: f, basis: b, part: o.part}); err != nil {
			return nil, err
		}
	}
	s.Narrow, s.Reference = s.Evidence.narrowOf(), chooseReference(f, src, dst, o.Reference)
	if o.SkipForward {
		return s, nil
	}
	enough := func([]stats.Row) bool { return false }
	if o.part == whole { // a part does not know what the others have read
		r, err := s.static()
		if err != nil {
			return nil, err
		}
		enough = func(rows []stats.Row) bool { return !o.AllTokens && r.enough(rows) != "" }
	}
	c := comparison{o: o, folders: f, reference: s.Reference, state: state, from: at, evidence: s.Evidence, basis: b, enough: enough}
	var err error
	if s.Forward, err = c.forward(ctx, src, dst); err != nil {
		return nil, err
	}
	state.remove()
	return s, nil
}

// static is the verdict without the forward pass, with the budget for it.
func (s *observed) static() (*Result, error) {
	r := s.Evidence.judge()
	if err := r.otherSource(s.Evidence.Diff); err != nil {
		return nil, err
	}
	r.chooseProfile(s.Tol, s.Narrow)
	r.Reference = s.Reference
	return r, nil
}

// conclude is the verdict on everything.
func (s *observed) conclude() (*Result, error) {
	r, err := s.static()
	if err != nil {
		return nil, err
	}
	if len(s.Forward) > 0 {
		if r.Verdict == Undecided {
			r.Verdict, r.Reason = Pass, "" // what the models compute decides
		}
		if r, err = r.judgeForwards(s.Forward, s.AllTokens); err != nil {
			return nil, err
		}
	}
	if len(r.Failed) > 0 {
		r.Verdict, r.Reason = Fail, ""
		if r.Cause == "" {
			r.Cause = r.likelyCause()
		}
	}
	return r, nil
}

// judgeForward judges what running both models has shown. The error is that of a
// pass that broke though the result is not known to be bad.
func (r *Result) judgeForward(f *forward, allTokens bool) error {
	r.Bytes += f.Read
	if f.Stage == opening {
		return r.broken(f)
	}
	if f.Seen > 0 {
		r.Notes = append(r.Notes, Note{"text", fmt.Sprintf("%.0f %% of it was calibrated on, as the manifest's hashes show: the result is better on it than on other text", 100*f.Seen)})
	}
	r.Identity.Corpus, r.Identity.Sequences, r.Identity.Vocab, r.Identity.Threads = f.Origin, len(f.Lengths), f.Vocab, f.Threads
	r.Identity.IDsSHA256 = f.Prefixes[len(f.Prefixes)-1]
	if len(f.Lengths) == 0 {
		r.undecided("there is no token to read")
		return nil
	}
	r.judgeDrafting(f.Drafting)
	if f.Stage == passing {
		return r.broken(f)
	}
	r.judgeInputs(f)
	list := f.Sequences
	if !allTokens {
		list = r.stopEarly(f)
	}
	r.judgeFigures(list, f.Drafting.possible())
	r.Failed = append(r.Failed, f.Tower...)
	if f.Stage == looking {
		return r.broken(f)
	}
	return nil
}

// broken turns the error of a pass into a failed predicate where the result is
// known to be bad or incomplete.
func (r *Result) broken(f *forward) error {
	switch {
	case len(r.Failed) > 0 || f.Incomplete:
		r.fail("logits", "forward pass", f.Broken)
		return nil
	case f.err != nil:
		return f.err
	}
	return &Error{"", f.Broken, ""}
}

// stopEarly returns the sequences of the batches that decide.
func (r *Result) stopEarly(f *forward) []sequence {
	for i, first := range f.Starts {
		if first > len(f.Sequences) {
			break
		}
		if rule := r.enough(rowsOfAll(f.Sequences[:first])); rule != "" {
			r.Stopped = &Stopped{first, len(f.Lengths), rule}
			r.Identity.Sequences, r.Identity.IDsSHA256 = first, f.Prefixes[i]
			return f.Sequences[:first]
		}
	}
	return f.Sequences
}

// judgeFigures adds up the figures of sequences, in their order, and judges them.
func (r *Result) judgeFigures(list []sequence, drafting bool) {
	layers := 0
	for i := range list {
		layers = max(layers, len(list[i].Layers))
	}
	var noise []stats.Row
	var sum drafts
	sums := make([]layerSums, layers)
	for i := range list {
		for l := range list[i].Layers {
			sums[l].plus(&list[i].Layers[l])
		}
		noise = append(noise, list[i].Noise...)
		sum.plus(&list[i].Drafts)
	}
	for l := range sums {
		r.Layers = append(r.Layers, sums[l].layer(l))
	}
	if r.Exact.Rotated {
		r.forgetStates()
	} else {
		r.judgeKeys()
	}
	rows := rowsOfAll(list)
	r.judgeLogits(counted(rows))
	r.Skipped = len(rows) - len(counted(rows))
	r.KL.Noise = stats.Summarize(counted(noise)).MeanKL
	if drafting {
		r.judgeDrafts(&sum)
		if r.Exact.Rotated {
			r.forgetStates()
		}
	}
}
