package report

import (
	"fmt"
	"math"
	"math/rand/v2"

	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/stats"
)

func samples() map[string]*verify.Result {
	return map[string]*verify.Result{"pass": passing(), "fail": failing(), "undecided": flat()}
}

// passing is a good W8A8 conversion of a model of 46 layers.
func passing() *verify.Result {
	rng := rand.New(rand.NewPCG(1, 2))
	r := &verify.Result{
		Schema: verify.Schema, Verdict: verify.Pass, Tol: 0.01, Failed: []verify.Failed{}, Notes: []verify.Note{},
		Profile: verify.Profile{Name: "8-bit", Tol: 0.01, P999: 0.5, NRMSE: 0.1, FlipRate: 0.09},
		KL:      verify.KL{Mean: 0.0024, Upper95: 0.0028, P50: 0.0009, P99: 0.019, P999: 0.11, Max: 0.42, ReverseMean: 0.0025, JSMean: 0.0006, Noise: 2.5e-5},
		NRMSE:   0.021, FlipRate: 0.014, Tokens: 2048,
		Exact:   verify.Exact{SourceTensors: 18329, Copied: 1288, Quantized: 17041, ConfigAgrees: true, MTPComplete: true, CheckOK: true},
		Oracle:  verify.Oracle{Modules: 17041, MaxDiff: 3e-7, Worst: "model.layers.3.mlp.experts.17.down_proj", Exact: true, Computed: true},
		Layers:  []verify.Layer{},
		Tensors: []verify.Tensor{},
		MTP: &verify.MTP{Source: verify.MTPSide{Agreement: []float64{0.82, 0.64, 0.51}, Length: 2.79},
			Result: verify.MTPSide{Agreement: []float64{0.81, 0.64, 0.50}, Length: 2.77}, Control: 0.03},
		Identity: verify.Identity{Source: "GLM-4.5-Air", Result: "GLM-4.5-Air-w8a8", Version: "0.4.0", Scheme: "w8a8", Format: "compressed-tensors", Corpus: "glmconv-eval-1", Sequences: 16, Threads: 8,
			IDsSHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
		PeakRSS: 940e6, Seconds: 543, Bytes: 320e9,
	}
	r.Logits.Histogram = []stats.Bin{}
	r.Logits.Summary = stats.Summary{Tokens: 2048, Sequences: 16, MeanKL: 0.0024, Upper95: 0.0028, FlipRate: 0.014, FlipRateConfident: 0.003, Top5: 0.982, Sigma: 2.6, NLLSource: 2.31, NLLResult: 2.312, DeltaNLL: 0.002, PerplexitySource: 10.07, PerplexityRes: 10.09}
	for range r.Tokens {
		r.Logits.PerToken = append(r.Logits.PerToken, math.Exp(rng.NormFloat64()*1.3-7))
	}
	e := 0.0
	for i := range 46 {
		own := 0.004 + 0.002*rng.Float64() + 0.00006*float64(i)
		e = math.Hypot(e*1.005, own*0.7)
		l := verify.Layer{Layer: i, Error: e, Own: own, RouterSame: 1 - 0.03*rng.Float64()*(1+float64(i)/30), RouterFlip: 0.1 * rng.Float64() * (1 + float64(i)/30)}
		if i == 0 {
			l.RouterSame, l.RouterFlip = 1, 0
		}
		r.Layers = append(r.Layers, l)
	}
	for i := range 30 {
		v := 0.0112 - 0.0001*float64(i)
		r.Tensors = append(r.Tensors, verify.Tensor{Name: fmt.Sprintf("model.layers.%d.mlp.experts.%d.down_proj", (i*17)%45+1, (i*53)%128), Encoding: "int8 channel", Relative: v, Own: v, Max: 0.0021})
	}
	return r
}

// failing is the same with the router bias of layer 12 rounded and its experts
// scaled wrong.
func failing() *verify.Result {
	r := passing()
	r.Verdict = verify.Fail
	r.KL = verify.KL{Mean: 0.31, Upper95: 0.36, P50: 0.11, P99: 2.4, P999: 4.1, Max: 6.2, ReverseMean: 0.4, JSMean: 0.05}
	r.NRMSE, r.FlipRate = 0.33, 0.24
	r.Exact.Differing = 1
	r.Oracle.MaxDiff, r.Oracle.Worst = 0.34, "model.layers.12.mlp.experts.3.up_proj"
	r.Failed = []verify.Failed{
		{Check: "exact", Where: "model.layers.12.mlp.gate.e_score_correction_bias", Detail: "is BF16, source is F32"},
		{Check: "oracle", Where: "model.layers.12.mlp.experts.*", Detail: "result differs from own rounding (0.34); all others agree"},
		{Check: "layers", Where: "layer 12", Detail: "KL jumps here: own error 0.29 against 0.006 of its neighbours"},
	}
	r.Cause = "the router bias of layer 12 lost precision: 160 values became 7"
	for i := range r.Logits.PerToken {
		r.Logits.PerToken[i] *= 140
	}
	for i := 12; i < len(r.Layers); i++ {
		r.Layers[i].Error += 0.26 * math.Pow(0.995, float64(i-12))
		r.Layers[i].RouterSame -= 0.25
		r.Layers[i].RouterFlip = min(1, r.Layers[i].RouterFlip+0.55)
	}
	r.Layers[12].Own = 0.29
	r.MTP.Result = verify.MTPSide{Agreement: []float64{0.63, 0.41, 0.22}, Length: 2.0}
	for i := range 3 {
		r.Tensors[i].Name, r.Tensors[i].Relative = fmt.Sprintf("model.layers.12.mlp.experts.%d.up_proj", 3+i), 0.34-0.01*float64(i)
	}
	return r
}

// flat is a model of random weights: nothing to tell by.
func flat() *verify.Result {
	r := passing()
	r.Verdict, r.Reason, r.MTP = verify.Undecided, "the source's logits are too flat (σ 0.11 < 0.5): no divergence could exceed the tolerance", nil
	r.Layers, r.Logits.Sigma = r.Layers[:4], 0.11
	r.KL = verify.KL{Mean: 3e-5, Upper95: 3.4e-5, P50: 2e-5, P99: 1e-4, P999: 2e-4, Max: 3e-4}
	for i := range r.Logits.PerToken {
		r.Logits.PerToken[i] *= 0.01
	}
	return r
}

// random is any result, sane or not.
func random(t *rapid.T) *verify.Result {
	f := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, 1, math.NaN(), math.Inf(1), math.Inf(-1), 1e-300, 0.01}), rapid.Float64Range(0, 1))
	n := rapid.IntRange(0, 1e6)
	s := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"exact", "oracle", "logits", "mtp", "layers", "kl"}))
	num := func() float64 { return f.Draw(t, "f") }
	list := func() []float64 { return rapid.SliceOfN(f, 0, 6).Draw(t, "list") }
	r := &verify.Result{Schema: verify.Schema, Verdict: rapid.SampledFrom([]verify.Verdict{verify.Pass, verify.Fail, verify.Undecided}).Draw(t, "verdict"), Tol: num(),
		Cause: s.Draw(t, "cause"), Reason: s.Draw(t, "reason"), NRMSE: num(), FlipRate: num(), Tokens: n.Draw(t, "tokens"), PeakRSS: int64(n.Draw(t, "rss")), Seconds: num(), Bytes: int64(n.Draw(t, "bytes")),
		Profile: verify.Profile{Name: s.Draw(t, "profile"), Tol: num(), P999: num(), NRMSE: num(), FlipRate: num()},
		KL:      verify.KL{Mean: num(), Upper95: num(), P50: num(), P99: num(), P999: num(), Max: num(), ReverseMean: num(), JSMean: num(), Noise: num()},
		Exact:   verify.Exact{SourceTensors: n.Draw(t, "n"), Copied: n.Draw(t, "n"), Quantized: n.Draw(t, "n"), Lost: n.Draw(t, "n")},
		Oracle:  verify.Oracle{Modules: n.Draw(t, "n"), MaxDiff: num(), Worst: s.Draw(t, "s")},
	}
	r.Logits.PerToken = list()
	r.Logits.Histogram = []stats.Bin{{Lo: num(), Hi: num(), Count: n.Draw(t, "n")}}
	for range rapid.IntRange(0, 4).Draw(t, "layers") {
		r.Layers = append(r.Layers, verify.Layer{Layer: n.Draw(t, "n"), Error: num(), Own: num(), RouterSame: num(), RouterFlip: num()})
		r.Tensors = append(r.Tensors, verify.Tensor{Name: s.Draw(t, "s"), Encoding: s.Draw(t, "s"), Relative: num(), Own: num(), Max: num()})
		r.Failed = append(r.Failed, verify.Failed{Check: s.Draw(t, "s"), Where: s.Draw(t, "s"), Detail: s.Draw(t, "s")})
	}
	if rapid.Bool().Draw(t, "mtp") {
		r.MTP = &verify.MTP{Source: verify.MTPSide{Agreement: list(), Length: num()}, Result: verify.MTPSide{Agreement: list(), Length: num()}, Control: num()}
	}
	return r
}
