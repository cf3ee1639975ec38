package verify

import (
	"github.com/glmconv/glmconv/verify/diff"
	"github.com/glmconv/glmconv/verify/stats"
)

// Schema of Result as JSON.
const Schema = "glmconv.verify/1"

// Verdict is the outcome of a comparison.
type Verdict string

// The verdicts. Undecided: too few tokens, flat logits, or the confidence
// interval straddles the tolerance.
const (
	Pass      Verdict = "pass"
	Fail      Verdict = "fail"
	Undecided Verdict = "undecided"
)

// Result is everything a comparison found: what the JSON report holds, and what
// the reports are made of. KL figures are nats per token.
type Result struct {
	Schema    string   `json:"schema"`
	Verdict   Verdict  `json:"verdict"`
	Tol       float64  `json:"tol"`
	Profile   Profile  `json:"profile"`
	Reference string   `json:"reference,omitempty"` // what a quantized source was taken for: ReferenceSource or ReferenceWeights
	Failed    []Failed `json:"failed"`              // in the order of the checks; empty on a pass
	Cause     string   `json:"cause"`               // the most likely cause in one sentence, or ""
	Reason    string   `json:"reason"`              // why it is undecided, or ""
	Notes     []Note   `json:"notes"`               // differences that change no answer; empty for none

	KL       KL      `json:"kl"`
	NRMSE    float64 `json:"nrmse"`
	FlipRate float64 `json:"flip_rate"`
	Tokens   int     `json:"tokens"`  // positions that the figures count
	Skipped  int     `json:"skipped"` // positions that no figure counts: the first four of each sequence

	Exact   Exact    `json:"exact"`
	Oracle  Oracle   `json:"oracle"`
	Logits  Logits   `json:"logits"`
	Layers  []Layer  `json:"layers"`
	Tensors []Tensor `json:"tensors"` // worst first
	MTP     *MTP     `json:"mtp"`
	Stopped *Stopped `json:"stopped"`         // null where all tokens were read
	Path    string   `json:"path,omitempty"`  // of an NPU that the figures are of, where there are several: the one that gives the worst
	Paths   []Path   `json:"paths,omitempty"` // all of them
	Error   *Refusal `json:"error"`           // why the two were not compared; null where they were

	Identity Identity `json:"identity"`
	PeakRSS  int64    `json:"peak_rss"` // bytes
	Seconds  float64  `json:"seconds"`
	floats   float64  // how far copied weights may be from the source's: rounding of a rotation
	turned   bool     // weights are compared with the source's in another basis
	smooth   bool     // the same under folds by any factors

	Bytes int64 `json:"bytes_read"` // of both checkpoints, by every pass over them
}

// Refusal says why two checkpoints were not compared.
type Refusal struct {
	Where  string `json:"where"`  // the file or folder; "" if the reason names it
	Reason string `json:"reason"` // the error in one sentence
	Hint   string `json:"hint"`   // what the user can do, or ""
	Exit   int    `json:"exit"`   // exit code of the command that reports it
}

// Refused is the Result of two checkpoints that cannot be compared: Fail, with
// the error as its cause and nothing measured.
func Refused(src, dst string, e Refusal) *Result {
	r := empty(src, dst)
	r.Verdict, r.Error, r.Cause = Fail, &e, e.Reason
	r.fail("input", e.Where, e.Reason)
	return r
}

// empty is a Result in which nothing is measured and nothing failed.
func empty(src, dst string) *Result {
	return &Result{Schema: Schema, Verdict: Pass, Failed: []Failed{}, Notes: []Note{}, Layers: []Layer{}, Tensors: []Tensor{},
		Logits: Logits{Histogram: []stats.Bin{}, PerToken: []float64{}}, Identity: Identity{Source: src, Result: dst}}
}

// Profile holds the guard rails that go with a scheme.
type Profile struct {
	Name     string  `json:"name"` // "8-bit", "4-bit", "8-bit with some 4-bit", "copy"
	Tol      float64 `json:"tol"`
	P999     float64 `json:"p999"`
	NRMSE    float64 `json:"nrmse"`
	FlipRate float64 `json:"flip_rate"`
	Keys     float64 `json:"keys"` // least overlap of a sparse indexer's choice with the source's from the same states
}

// Failed is one predicate that did not hold.
type Failed struct {
	Check  string `json:"check"` // exact, oracle, logits, mtp, …
	Where  string `json:"where"`
	Detail string `json:"detail"`
}

// Note is a difference that changes no answer, or something that was not looked at.
type Note struct {
	Where  string `json:"where"`
	Detail string `json:"detail"`
}

// KL is the distribution of the forward divergence KL(source‖result).
type KL struct {
	Mean        float64 `json:"mean"`
	Upper95     float64 `json:"upper95"`
	P50         float64 `json:"p50"`
	P99         float64 `json:"p99"`
	P999        float64 `json:"p999"`
	Max         float64 `json:"max"`
	ReverseMean float64 `json:"reverse_mean"`
	JSMean      float64 `json:"js_mean"`
	Noise       float64 `json:"noise_floor"` // mean KL of the source against itself with its residual stream rounded to BF16 after every layer, on a quarter of the sequences; 0 if not measured
}

// Exact is the zero-tolerance section.
type Exact struct {
	SourceTensors int  `json:"source_tensors"`
	Copied        int  `json:"copied"`
	Quantized     int  `json:"quantized"`
	Dropped       int  `json:"dropped"`
	Shared        int  `json:"shared"` // copies of the MTP layer left out that are the model's own, bit for bit
	Lost          int  `json:"lost"`
	Differing     int  `json:"differing"` // copied tensors whose bytes or values differ
	ConfigAgrees  bool `json:"config_agrees"`
	MTPComplete   bool `json:"mtp_complete"`
	CheckOK       bool `json:"check_ok"` // glmconv check finds no error
	Rotated       bool `json:"rotated"`  // the result's weights are rotated (QuaRot) and were not compared
}

// Oracle compares the result with our own rounding of the source.
type Oracle struct {
	Modules int     `json:"modules"`
	MaxDiff float64 `json:"max_diff"` // largest ‖result − own‖/‖own‖ of a module
	Worst   string  `json:"worst"`
	Exact   bool    `json:"exact"` // the arithmetic is known (manifest): result and own must be equal
	// Computed tells that the source was rounded again and compared. Otherwise
	// errors read back from the files were held against those the converter
	// recorded, or against what the encoding can cost, and MaxDiff is 0 unless
	// that failed.
	Computed bool `json:"computed"`
	// Basis says where the arithmetic is known from: "manifest", words on what
	// was inferred, or why there is none. Inferred: without a manifest, by
	// rounding a sample of the source's weights in the arithmetics known.
	Basis    string `json:"basis"`
	Inferred bool   `json:"inferred"`
	// Nearest counts the modules whose rounding is not known and whose codes are
	// those nearest to the source with the scales as stored.
	Nearest int `json:"nearest"`
	// NotJudged tells that codes are neither those of a rounding nor such that
	// they show where they are from: what the model computes with them decides.
	NotJudged bool `json:"not_judged"`
}

// Logits holds the statistics beside the KL.
type Logits struct {
	stats.Summary
	Histogram []stats.Bin `json:"histogram"` // of log10 KL per token
	PerToken  []float64   `json:"per_token"` // KL by position, sequences one after the other
}

// Layer is the error after one decoder layer: relative Frobenius norms
// ‖h' − h‖/‖h‖ of the residual stream.
type Layer struct {
	Layer      int     `json:"layer"`
	Error      float64 `json:"error"`       // both models on their own states
	Own        float64 `json:"own"`         // the result's layer on the source's state: its own share, on every fourth sequence
	RouterSame float64 `json:"router_same"` // mean Jaccard overlap of the experts chosen; 1 for dense layers
	RouterFlip float64 `json:"router_flip"` // share of tokens whose set of experts changed
	// Mean Jaccard overlap of the keys that a sparse indexer chose, over tokens
	// with more keys than it may choose; 1 where there is nothing to choose.
	KeysSame float64 `json:"keys_same"` // both models on their own states
	KeysOwn  float64 `json:"keys_own"`  // the result's layer on the source's state, on every fourth sequence
}

// Tensor is the weight error of one module.
type Tensor struct {
	Name     string  `json:"name"`
	Encoding string  `json:"encoding"` // Stored in words
	Relative float64 `json:"relative"` // ‖ŵ−w‖/‖w‖
	Own      float64 `json:"own"`      // the same of our own rounding
	Max      float64 `json:"max"`      // max |ŵ−w|
	Elements int64   `json:"elements"`

	Stored diff.Form `json:"-"`
	Source diff.Form `json:"-"`
}

// MTP compares the draft heads. Agreement[k−1] is the share of positions whose
// k-th teacher-forced draft equals the source trunk's own choice.
type MTP struct {
	Source  MTPSide `json:"source"`
	Result  MTPSide `json:"result"`
	Error   float64 `json:"error"`   // ‖z'−z‖/‖z‖ of first drafts' logits, both layers on the source's states
	Control float64 `json:"control"` // step-1 agreement of the source when fed the states of other positions
}

// MTPSide is one model's draft head.
type MTPSide struct {
	Agreement []float64 `json:"agreement"`
	Length    float64   `json:"acceptance_length"` // expected tokens per verification with that many drafts
}

// Identity says what was compared with what.
type Identity struct {
	Source    string `json:"source"`
	Result    string `json:"result"`
	Version   string `json:"version"`
	Scheme    string `json:"scheme"`
	Format    string `json:"format"`
	Corpus    string `json:"corpus"`
	Sequences int    `json:"sequences"`
	IDsSHA256 string `json:"ids_sha256"`
	Vocab     int    `json:"vocab"` // entries of the logits that are compared: those that the tokenizer has
	Threads   int    `json:"threads"`
}
