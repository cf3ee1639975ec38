package endpoint

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/verify"
)

// The tolerances of docs/facts/serving.md 3.
const (
	maxTail   = 0.05 // mean share of p that a server may leave unnamed
	minTokens = 128
	baseKL    = 1e-3
	baseBias  = 0.02
	baseAbs   = 0.05
)

func exp(x float64) float64 { return math.Exp(x) }
func abs(x float64) float64 { return math.Abs(x) }

// describes reports whether a folder has a description of quantized weights.
func describes(dir string) bool {
	d, err := fsx.OpenDir(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	list, err := d.ReadDir()
	return err == nil && slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		if ok, _ := path.Match("quant_model_description*.json", e.Name()); !ok {
			return false
		}
		st, err := d.Stat(e.Name())
		return err == nil && st.Mode().IsRegular()
	})
}

// floors are what rounding and the server's own unrest make of the figures.
func (v *verifying) floors(s *Server) (kl, nll float64) {
	return v.r.Floor.KL, v.r.Floor.NLL + s.Repeat.Abs
}

// allowed is the ceiling of the mean KL.
func (v *verifying) allowed(s *Server) float64 {
	kl, nll := v.floors(s)
	tol := v.o.Verify.Tol
	if tol <= 0 {
		tol = baseKL
		if v.quantized {
			tol = 5 * baseKL // inputs are rounded once more, in another order of sums
		}
	}
	return max(tol, 3*kl, 3*nll*nll/2)
}

// judge fills the checks of a server.
func (v *verifying) judge(s *Server) {
	f, tol := &s.Figures, v.allowed(s)
	v.r.Tol = max(v.r.Tol, tol)
	_, nll := v.floors(s)
	put := func(id string, ok bool, format string, args ...any) {
		state := passed
		if !ok {
			state = failed
		}
		s.Checks = append(s.Checks, Check{id, state, fmt.Sprintf(format, args...)})
	}
	if f.Tokens == 0 {
		s.Checks = append(s.Checks, Check{"kl", undecided, "nothing could be compared"})
		return
	}
	if sum := f.KL + f.Tail + f.Abs + tol; math.IsNaN(sum) {
		line := "the runtime computes no numbers (NaN) from this folder: glmconv check --weights looks for damaged tensors and scales"
		s.Checks = append(s.Checks, Check{"kl", undecided, line})
		v.undecided(line)
		return
	}
	context := "it does not tell its context"
	if s.Context > 0 {
		context = fmt.Sprintf("context of %d", s.Context)
	}
	s.Checks = append(s.Checks, Check{"ids", s.ids.State, fmt.Sprintf("%s; vocabulary of %d, %s", s.ids.Line, v.served.Config().VocabSize, context)})
	klState := passed
	switch {
	case f.KL > tol && f.Upper95 > tol && f.KL > tol*1.5, f.KL > tol && f.Tail <= maxTail:
		klState = failed
	case f.Tail > maxTail || f.Upper95 > tol || f.Tokens < minTokens:
		klState = undecided
		if f.Tail > maxTail && s.Kind == LlamaPython {
			v.undecided(fmt.Sprintf("%.2g of the probability is of tokens that this server cannot name, since they have no text of their own, or that it leaves out: "+
				"another text (--text) may have fewer, --top-logprobs asks for more", f.Tail))
		}
	}
	s.Checks = append(s.Checks, Check{"kl", klState, fmt.Sprintf("mean KL at least %.3g nats/token, its 95 %% bound %.3g, allowed %.3g (floor %.2g) · %.2g of the probability is of tokens that the server does not name (%d are)",
		f.KL, f.Upper95, tol, v.r.Floor.KL, f.Tail, s.TopK)})
	put("bias", abs(f.Bias) <= baseBias+nll && f.Abs <= max(baseAbs, 5*nll), "log-probabilities of the text: bias %.3g, mean difference %.3g, 99 %% %.3g, largest %.3g (floor %.2g) · perplexity %.4g, of the runtime %.4g",
		f.Bias, f.Abs, f.P99, f.Max, nll, f.Perplexity[1], f.Perplexity[0])
	v.judgeChoices(s, put)
	v.judgePositions(s, nll, put)
	put("repeat", s.Repeat.Abs <= max(0.02, v.r.Floor.NLL*3), "asked twice, the server differs from itself by %.2g in the mean, %.2g at most, over %d tokens", s.Repeat.Abs, s.Repeat.Max, s.Repeat.Tokens)
	v.judgeRanks(s, nll, put)
}

func (v *verifying) judgeChoices(s *Server, put func(string, bool, string, ...any)) {
	f, want := &s.Figures, 0.99
	if v.quantized {
		want = 0.97
	}
	if f.ClearN < 30 {
		s.Checks = append(s.Checks, Check{"choices", none, fmt.Sprintf("not judged: %d places have a clear first choice; of all, %.3g %% agree", f.ClearN, 100*f.Top1)})
		return
	}
	put("choices", f.Clear >= want, "the same first choice at %.4g %% of %d places with a clear one (%.4g %% of all); %.3g of ten in common", 100*f.Clear, f.ClearN, 100*f.Top1, f.Top10)
}

// judgePositions looks for errors that grow with the place, and for a step where
// sparse attention begins.
func (v *verifying) judgePositions(s *Server, nll float64, put func(string, bool, string, ...any)) {
	f := &s.Figures
	slack := 2*nll + 0.01
	grows := f.Halves[1] > 3*f.Halves[0] && f.Halves[1]-f.Halves[0] > slack
	steps := f.StepN >= 16 && f.Step[1] > 3*f.Step[0] && f.Step[1]-f.Step[0] > slack
	line := fmt.Sprintf("mean difference %.3g in the first half of the sequences, %.3g in the second", f.Halves[0], f.Halves[1])
	if f.StepN > 0 {
		line += fmt.Sprintf("; %.3g before index_topk, %.3g behind", f.Step[0], f.Step[1])
	}
	switch {
	case steps:
		line += ": the step is the indexer's"
	case grows:
		line += ": it grows with the position, as with another rotary base or scaling"
	}
	put("position", !grows && !steps, "%s", line)
}

func (v *verifying) judgeRanks(s *Server, nll float64, put func(string, bool, string, ...any)) {
	if len(s.Ranks) < 2 {
		return
	}
	best := math.Inf(1)
	for _, r := range s.Ranks {
		best = min(best, r.Abs)
	}
	var bad []string
	for _, r := range s.Ranks {
		if r.Abs > 3*best+2*nll+0.01 {
			bad = append(bad, fmt.Sprint(r.Rank))
		}
	}
	line := fmt.Sprintf("%d data parallel ranks are alike", len(s.Ranks))
	if len(bad) > 0 {
		line = "rank " + strings.Join(bad, ", ") + " strays further than the others"
	}
	put("ranks", len(bad) == 0, "%s", line)
}

// agrees reports whether no check of the server failed.
func (s *Server) agrees() bool {
	for _, c := range s.Checks {
		if c.State == failed {
			return false
		}
	}
	return true
}

func (s *Server) decided() bool {
	for _, c := range s.Checks {
		if c.State == undecided {
			return false
		}
	}
	return true
}

func (v *verifying) undecided(reason string) {
	if v.r.Verdict == verify.Pass {
		v.r.Verdict = verify.Undecided
	}
	if v.r.Reason == "" {
		v.r.Reason = reason
	}
}

func (v *verifying) fail(check, where, detail string) {
	v.r.Verdict, v.r.Reason = verify.Fail, ""
	v.r.Failed = append(v.r.Failed, verify.Failed{Check: check, Where: where, Detail: detail})
}

// conclude does what was asked for besides and draws the conclusion.
func (v *verifying) conclude(ctx context.Context, clients []*client) error {
	engineWrong := false
	for i := range v.r.Servers {
		s := &v.r.Servers[i]
		if s.agrees() {
			if !s.decided() {
				v.undecided("what the server names says too little: more tokens a place (--top-logprobs, and the server's own limit), or a longer text (--tokens)")
			}
			continue
		}
		engineWrong = true
		for _, c := range s.Checks {
			if c.State == failed {
				v.fail(c.ID, s.URL, c.Line)
			}
		}
	}
	v.whose(engineWrong)
	for i, c := range clients {
		s := &v.r.Servers[i]
		if v.o.Drafts {
			if err := v.drafts(ctx, c, s); err != nil {
				return err
			}
		}
		if v.o.Chat {
			v.r.Chat = append(v.r.Chat, v.chat(ctx, c, s)...)
		}
		if v.o.Functional {
			v.r.Probes = append(v.r.Probes, v.functional(ctx, c, s)...)
		}
	}
	for _, list := range [][]Probe{v.r.Chat, v.r.Probes} {
		for _, p := range list {
			if p.State == failed {
				v.fail("functional", p.Name, p.Line)
				if v.r.Fault == NoFault {
					v.r.Fault, v.r.Cause = ServerSetup, p.Name+": "+p.Line
				}
			}
		}
	}
	return ctx.Err()
}

// whose says whose fault it is.
func (v *verifying) whose(engineWrong bool) {
	r := v.r
	file := r.File
	fileWrong := file != nil && file.Verdict == verify.Fail
	if fileWrong {
		for _, f := range file.Failed {
			r.Failed = append(r.Failed, verify.Failed{Check: "file: " + f.Check, Where: f.Where, Detail: f.Detail})
		}
		r.Verdict, r.Reason = verify.Fail, ""
	}
	if file != nil && file.Verdict == verify.Undecided && !engineWrong {
		v.undecided("whether the file is right is undecided: glmconv verify of the two folders says why")
	}
	folder := safetext.Line(filepath.Base(v.dir))
	switch {
	case !engineWrong && fileWrong:
		r.Fault, r.Cause = FileFault, "the server computes what the file says; the file is wrong: "+orUnknown(file.Cause)
		r.Advice = append(r.Advice, "glmconv verify "+v.original+" "+v.dir, "glmconv check --weights "+v.dir)
	case engineWrong && v.servesOriginal():
		r.Fault, r.Cause = OtherModel, "the server serves the original, not "+folder
		r.Advice = append(r.Advice, "give the server the path of "+folder)
	case engineWrong:
		v.blame(fileWrong, folder)
	}
}

func orUnknown(cause string) string {
	if cause == "" {
		return "see what failed"
	}
	return cause
}

func (v *verifying) servesOriginal() bool {
	for i := range v.r.Servers {
		s := &v.r.Servers[i]
		if !s.agrees() && (s.Original == nil || !(s.Original.KL <= v.allowed(s) && s.Original.KL < s.Figures.KL/2)) {
			return false
		}
	}
	return true
}

// far is a distance that no rounding and no lost tensor of one kind explains.
const far = 1.0

// blame is about servers that stray from the folder.
func (v *verifying) blame(fileWrong bool, folder string) {
	r := v.r
	var worst *Server
	for i := range r.Servers {
		if s := &r.Servers[i]; !s.agrees() && (worst == nil || s.Figures.KL > worst.Figures.KL) {
			worst = s
		}
	}
	r.Fault = EngineFault
	switch {
	case fileWrong:
		r.Fault = BothFaults
	case v.original == "" || r.File == nil:
		r.Fault = UnknownSide
	}
	f := &worst.Figures
	switch {
	case worst.cause != "":
		r.Cause = "the server computes as if " + lower(worst.cause)
		r.Advice = append(r.Advice, worst.advice...)
		if r.Fault == UnknownSide {
			r.Fault = EngineFault
		}
	case f.KL > far && f.Top10 < 0.2:
		r.Fault = OtherModel
		r.Cause = "the server is far from " + folder + " everywhere: another model, another tokenizer, or weights that were not loaded"
	case r.Fault == UnknownSide:
		r.Cause = "the server does not compute what the file says: the engine, or what it loaded is not this folder"
		r.Advice = append(r.Advice, "with the original in front of the folder (verify SRC DST --endpoint URL) the two can be told apart")
	default:
		r.Cause = "the server does not compute what the file says: a kernel, a flag, or tensors that were dropped in silence"
	}
	if fileWrong {
		r.Cause += "; and the file is wrong too: " + orUnknown(r.File.Cause)
	}
	r.Advice = append(r.Advice, engineAdvice(worst.Kind, v.dir)...)
}

func lower(s string) string { return strings.TrimSpace(s) }

// engineAdvice is what to try with an engine.
func engineAdvice(k Kind, dir string) []string {
	list := []string{"glmconv check " + dir + " --engine "}
	switch k {
	case SGLang:
		list[0] += "sglang"
		list = append(list, "SGLang: --quantization of the folder's scheme, --disable-shared-experts-fusion")
	case VLLM:
		list[0] += "vllm"
		list = append(list, `vLLM: --model-loader-extra-config '{"enable_weights_track": true}' stops where tensors are missing`)
	default:
		list[0] = "glmconv check " + dir
	}
	return list
}
