package verify

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/glmconv/glmconv/verify/stats"
)

// Profiles are the guard rails of docs/facts/verification.md 1.6: the mean KL
// hides rare catastrophes (P999) and depends on the scale of the logits (NRMSE
// does not).
var (
	profileCopy = Profile{Name: "copy", Tol: 1e-2, Keys: 0.9}
	// decoded weights are rounded once to BF16: their bits are checked one by one, the logits move by that rounding
	profileDecoded = Profile{Name: "decoded", Tol: 1e-2, P999: 0.5, NRMSE: 0.10, FlipRate: 0.09, Keys: 0.9}
	profile8       = Profile{Name: "8-bit", Tol: 1e-2, P999: 0.5, NRMSE: 0.10, FlipRate: 0.09, Keys: 0.9}
	// a basis of its own, or folds by any factors, round every weight once: as far as the noise of BF16 goes
	profileRotated = Profile{Name: "rotated", Tol: 1e-2, P999: 0.5, NRMSE: 0.10, FlipRate: 0.09, Keys: 0.9}
	profile4       = Profile{Name: "4-bit", Tol: 5e-2, P999: 2, NRMSE: 0.30, FlipRate: 0.20, Keys: 0.75}
	// inputs of four bits besides (docs/facts/formats.md 10.4: 0.055 to 0.061 nats from the BF16 model)
	profile4x4 = Profile{Name: "4-bit weights and activations", Tol: 0.15, P999: 4, NRMSE: 0.35, FlipRate: 0.35, Keys: 0.75}
)

const (
	minTokens = 128 // below, the interval of the mean says nothing
	minSigma  = 0.5 // flatter logits cannot show a fault: KL grows with sigma²
)

// Compare compares the result in dst with the source in src: everything that
// Static does, then both models run in lock-step over the same tokens. The
// error says that the two cannot be compared or read; a bad result is none, but
// a Fail.
func Compare(ctx context.Context, src, dst string, o Options) (*Result, error) {
	start := time.Now()
	o.part = whole
	s, err := o.observe(ctx, src, dst)
	if err != nil {
		return nil, err
	}
	r, err := s.conclude()
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// mostly4 is the share of quantized weights from which on the guard rails are
// those of 4 bits: the experts of every GLM are more.
const mostly4 = 0.25

// chooseProfile takes the guard rails of what the result's weights are rounded
// to: those of 8 bits, those of 4 where a quarter of the quantized weights and
// more have 4 bits, and what lies between for less. One int4 module does not
// loosen the budget of an 8-bit model.
// narrow are the modules whose inputs have 4 bits as well.
func (r *Result) chooseProfile(tol float64, narrow map[string]bool) {
	if r.Profile = profileCopy; r.turned || r.smooth {
		r.Profile = profileRotated
	}
	var four, both, all float64
	for _, t := range r.Tensors {
		w := t.Stored.Weight
		if !w.Quantized() {
			if t.Source.Quantized() {
				r.Profile = profileDecoded
			}
			continue
		}
		all += float64(t.Elements)
		if w.Bits <= 4 {
			four += float64(t.Elements)
			if narrow[t.Name] {
				both += float64(t.Elements)
			}
		}
	}
	switch share := four / max(all, 1) / mostly4; {
	case all == 0:
	case both/all >= mostly4:
		r.Profile = profile4x4
	case share >= 1:
		r.Profile = profile4
	case share > 0:
		r.Profile = between(profile8, profile4, share)
	default:
		r.Profile = profile8
	}
	if r.Tol = tol; tol <= 0 {
		r.Tol = r.Profile.Tol
	}
}

// between mixes two profiles.
func between(a, b Profile, share float64) Profile {
	mix := func(x, y float64) float64 { return x + share*(y-x) }
	return Profile{Name: "8-bit with some 4-bit", Tol: mix(a.Tol, b.Tol), P999: mix(a.P999, b.P999), NRMSE: mix(a.NRMSE, b.NRMSE),
		FlipRate: mix(a.FlipRate, b.FlipRate), Keys: mix(a.Keys, b.Keys)}
}

// judgeKeys looks at what sparse attention chose: a wrong choice of keys hardly
// shows in the logits of short texts. Rounding to 8 bits leaves 0.97 of the
// source's choice and more, to int4 0.87 of it where weights are random; an
// indexer with its rotary pairs exchanged does not keep half.
func (r *Result) judgeKeys() {
	for _, l := range r.Layers {
		if !(l.KeysOwn >= r.Profile.Keys) {
			r.fail("rails", fmt.Sprintf("layer %d", l.Layer), fmt.Sprintf("its indexer chooses other keys than the source's from the same states: overlap %.3g, at least %.2g is expected", l.KeysOwn, r.Profile.Keys))
		}
	}
}

func (r *Result) undecided(reason string) {
	r.Verdict = Undecided
	if r.Reason == "" {
		r.Reason = reason
	}
}

// judgeLogits fills the figures of the logits and applies the budget and the
// guard rails.
func (r *Result) judgeLogits(rows []stats.Row) {
	s := stats.Summarize(rows)
	r.Logits.Summary = s
	for _, x := range rows {
		r.Logits.PerToken = append(r.Logits.PerToken, x.KL)
	}
	r.Logits.Histogram, _ = stats.Histogram(r.Logits.PerToken)
	r.Tokens, r.NRMSE, r.FlipRate = s.Tokens, s.NRMSE, s.FlipRate
	r.KL = KL{Mean: s.MeanKL, Upper95: s.Upper95, P50: s.P50, P99: s.P99, P999: s.P999, Max: s.MaxKL, ReverseMean: s.ReverseMean, JSMean: s.JSMean}
	switch {
	case s.NonFinite > 0:
		r.fail("logits", "logits", fmt.Sprintf("the result's are not finite at %d of %d positions", s.NonFinite, s.Tokens))
		return
	case math.IsNaN(s.MeanKL) || math.IsNaN(s.Sigma):
		r.undecided("the source's own logits are not finite")
		return
	case s.Tokens < minTokens:
		r.undecided(fmt.Sprintf("%d tokens are too few, %d are the least", s.Tokens, minTokens))
		return
	case s.Sigma < minSigma:
		r.undecided(fmt.Sprintf("the source's logits are flat (standard deviation %.2g, at least %.2g is needed): they cannot show a fault", s.Sigma, minSigma))
		return
	}
	lower := s.MeanKL - 1.645*s.StdErr
	switch {
	case s.Upper95 <= r.Tol:
	case lower > r.Tol || s.Sequences < 2:
		r.fail("kl", "logits", fmt.Sprintf("mean KL %.3g nats per token, at most %.3g is allowed", s.MeanKL, r.Tol))
	default:
		r.undecided(fmt.Sprintf("mean KL is %.3g, with 95 %% confidence between %.3g and %.3g: the tolerance %.3g lies within; read more tokens", s.MeanKL, lower, s.Upper95, r.Tol))
	}
	if n, most := over(rows, r.Profile.P999); n > most {
		r.fail("rails", "logits", fmt.Sprintf("the KL is above %.3g at %d of %d positions, the %s profile allows one in a thousand", r.Profile.P999, n, s.Tokens, r.Profile.Name))
	}
	for _, x := range []struct {
		name       string
		got, limit float64
	}{{"NRMSE", s.NRMSE, r.Profile.NRMSE}, {"rate of top-1 flips beyond near ties", clearFlips(rows), r.Profile.FlipRate}} {
		if !(x.got <= x.limit) {
			r.fail("rails", "logits", fmt.Sprintf("%s is %.3g, the %s profile allows %.3g", x.name, x.got, r.Profile.Name, x.limit))
		}
	}
}

// over counts the rows above a limit that the 99.9th percentile must keep, and
// how many can be above it by chance (95 %, Poisson) if the percentile does:
// of 2,000 rows two are to be expected and four are no evidence.
func over(rows []stats.Row, limit float64) (n, most int) {
	for _, x := range rows {
		if !(x.KL <= limit) {
			n++
		}
	}
	if limit == 0 { // a copy
		return n, 0
	}
	mean := float64(len(rows)) / 1000
	p := math.Exp(-mean)
	for sum := p; sum < 0.95; sum += p {
		most++
		p *= mean / float64(most)
	}
	return n, most
}

// clearFlips is the share of rows whose most likely token changed although it
// led by more than the row's own error can account for: twice the deviation of
// a difference of two logits. Where the source hardly prefers a token, a flip
// says nothing.
func clearFlips(rows []stats.Row) float64 {
	n := 0
	for _, x := range rows {
		if x.Flip() && x.Margin > 2*math.Sqrt2*x.NRMSE*x.Sigma {
			n++
		}
	}
	return float64(n) / float64(max(len(rows), 1))
}

// likelyCause is one sentence on why the verdict is negative.
func (r *Result) likelyCause() string {
	f := r.Failed[0]
	if f.Check != "kl" && f.Check != "rails" || len(r.Layers) == 0 {
		return strings.TrimSpace(f.Where + " " + f.Detail)
	}
	if r.Profile.Name == profile4.Name && r.Tol < r.Profile.Tol && r.KL.Upper95 <= r.Profile.Tol {
		return fmt.Sprintf("4-bit weights seldom stay under %.2g; their own budget is %.2g", r.Tol, r.Profile.Tol)
	}
	worst := r.Layers[0]
	for _, l := range r.Layers {
		if !(l.Own <= worst.Own) {
			worst = l
		}
	}
	out := fmt.Sprintf("layer %d adds the largest error of its own (%.3g of its output)", worst.Layer, worst.Own)
	prefix := fmt.Sprintf(".layers.%d.", worst.Layer)
	for _, t := range r.Tensors {
		if strings.Contains(t.Name, prefix) {
			return out + fmt.Sprintf(", its worst weight is %s (%.3g)", t.Name, t.Relative)
		}
	}
	return out
}
