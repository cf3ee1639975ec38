package report

import (
	"fmt"

	"github.com/glmconv/glmconv/verify"
)

// figures are the statistics of the logits with their definitions.
func figures(r *verify.Result) []pair {
	if r.Tokens == 0 {
		return nil
	}
	l := r.Logits
	return []pair{
		{"mean KL", num(r.KL.Mean), "KL(source‖result), nats per token: teacher forced, full vocabulary, temperature 1, summed in float64"},
		{"95 % bound", num(r.KL.Upper95), "one-sided upper bound of the mean, block bootstrap over sequences; this is what the budget limits"},
		{"median · 99 % · 99.9 % · max", fmt.Sprintf("%s · %s · %s · %s", num(r.KL.P50), num(r.KL.P99), num(r.KL.P999), num(r.KL.Max)), "quantiles of the KL of single tokens, nats"},
		{"reverse KL", num(r.KL.ReverseMean), "KL(result‖source), mean, nats"},
		{"Jensen–Shannon", num(r.KL.JSMean), "symmetric, at most ln 2, nats"},
		{"noise floor", num(r.KL.Noise), "mean KL of the source against itself with its residual stream rounded to BF16 after every layer, as engines keep it; 0: not measured"},
		{"NRMSE", num(r.NRMSE), "‖difference of centred logits‖ over ‖source's centred logits‖, mean of positions: free of scale"},
		{"same top-1", percent(1 - r.FlipRate), "positions whose most likely token is the source's"},
		{"same top-1, confident", percent(1 - l.FlipRateConfident), "the same where the source's entropy is below 1 nat"},
		{"top-5 overlap", percent(l.Top5), "how many of the source's five likeliest tokens are among the result's"},
		{"perplexity", num(l.PerplexitySource) + " → " + num(l.PerplexityRes), "of the evaluation text, source → result"},
		{"Δ NLL", num(l.DeltaNLL), "mean negative log likelihood, result minus source, nats"},
		{"σ of the logits", num(l.Sigma), "mean standard deviation of the source's logits; below 0.5 they are too flat to judge by"},
		{"not finite", count(l.NonFinite), "positions with NaN or infinite logits in the result"},
	}
}

// limits are the guard rails with what was measured.
func limits(r *verify.Result) []pair {
	return []pair{
		{"mean KL, 95 % bound", num(r.Tol), num(r.KL.Upper95)},
		{"99.9 % KL", num(r.Profile.P999), num(r.KL.P999)},
		{"NRMSE", num(r.Profile.NRMSE), num(r.NRMSE)},
		{"changed top-1 tokens", percent(r.Profile.FlipRate), percent(r.FlipRate)},
	}
}

func origin(r *verify.Result) []pair {
	i := r.Identity
	return []pair{
		{"source", clean(i.Source), ""},
		{"result", clean(i.Result), ""},
		{"scheme · layout", clean(i.Scheme) + " · " + clean(i.Format), ""},
		{"glmconv", clean(i.Version), ""},
		{"evaluation text", fmt.Sprintf("%s: %s in %s", clean(i.Corpus), plural(r.Tokens, "token"), plural(i.Sequences, "sequence")), ""},
		{"SHA-256 of the token ids", clean(i.IDsSHA256), ""},
		{"threads", count(i.Threads), ""},
		{"time", duration(r.Seconds), ""},
		{"read", bytes(r.Bytes), ""},
		{"peak memory", bytes(r.PeakRSS), ""},
	}
}
