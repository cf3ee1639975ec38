package endpoint

import (
	"github.com/glmconv/glmconv/verify"
)

// Schema of Result as JSON.
const Schema = "glmconv.endpoint/1"

// Result is everything that was found. KL figures are nats per token.
type Result struct {
	Schema   string          `json:"schema"`
	Verdict  verify.Verdict  `json:"verdict"`
	Fault    Fault           `json:"fault"`  // whose it is
	Cause    string          `json:"cause"`  // in one sentence, or ""
	Advice   []string        `json:"advice"` // what to try
	Reason   string          `json:"reason"` // why it is undecided, or ""
	Failed   []verify.Failed `json:"failed"`
	Notes    []verify.Note   `json:"notes"`
	Served   string          `json:"served"`   // folder of what is served
	Original string          `json:"original"` // folder that it was made of, or ""
	Tol      float64         `json:"tol"`
	Corpus   string          `json:"corpus"`
	Version  string          `json:"version"`
	Floor    Floor           `json:"floor"`
	Servers  []Server        `json:"servers"`
	File     *FileVerdict    `json:"file"` // the two folders; null where there is one
	Chat     []Probe         `json:"chat"`
	Probes   []Probe         `json:"functional"`
	Seconds  float64         `json:"seconds"`
	PeakRSS  int64           `json:"peak_rss"`

	Compared *verify.Result `json:"-"` // of the folders
}

// Fault says whose fault a failure is.
type Fault string

// The faults.
const (
	NoFault     Fault = ""
	FileFault   Fault = "file"
	EngineFault Fault = "engine"
	BothFaults  Fault = "file and engine"
	OtherModel  Fault = "other model"     // the server serves something else
	UnknownSide Fault = "file or engine"  // there is no original to tell them apart
	ServerSetup Fault = "server settings" // template, parsers, drafts
)

// FileVerdict is what verify found of the two folders.
type FileVerdict struct {
	Verdict verify.Verdict  `json:"verdict"`
	Cause   string          `json:"cause"`
	Failed  []verify.Failed `json:"failed"`
	MeanKL  float64         `json:"mean_kl"`
}

// Floor is what rounding alone makes of the figures.
type Floor struct {
	KL  float64 `json:"kl"`  // the runtime against itself with its residual stream in BF16
	NLL float64 `json:"nll"` // mean |Δ log p| of the same
}

// Server is what one server is, and how far it strays.
type Server struct {
	URL      string   `json:"url"`
	Kind     Kind     `json:"kind"`
	Version  string   `json:"version"`
	Model    string   `json:"model"`
	Context  int      `json:"context"` // tokens, 0 where it does not say
	Cache    string   `json:"cache"`   // dtype of its keys and values, where it says
	TopK     int      `json:"top_k"`
	Drafts   *Drafts  `json:"drafts"` // null where not judged
	Figures  Figures  `json:"figures"`
	Original *Figures `json:"against_original"` // null where not needed
	Repeat   Repeat   `json:"repeat"`
	Ranks    []Rank   `json:"ranks"` // of data parallel engines
	Signs    []Sign   `json:"signs"` // faults that were tried, nearest first
	Checks   []Check  `json:"checks"`

	hasDrafts bool
	ids       Probe    // what is known of the ids that it has read
	cause     string   // what it does instead, or ""
	advice    []string // of that
}

// Figures compare a server with a runtime over the places counted.
type Figures struct {
	Tokens     int        `json:"tokens"`
	KL         float64    `json:"kl"`         // mean lower bound of KL(p‖q)
	Upper95    float64    `json:"kl_upper95"` // of the mean of the lower bounds
	Reverse    float64    `json:"kl_reverse"`
	Tail       float64    `json:"tail"` // mean share of p beyond the tokens named
	Bias       float64    `json:"bias"` // mean ln p − ln q of the actual tokens
	Abs        float64    `json:"abs"`  // mean |ln p − ln q|
	P99        float64    `json:"p99"`
	Max        float64    `json:"max"`
	Perplexity [2]float64 `json:"perplexity"` // runtime, server
	Top1       float64    `json:"top1"`       // agreement of the most likely tokens
	Clear      float64    `json:"top1_clear"` // of those whose margin is 0.3 nats and more
	ClearN     int        `json:"top1_clear_tokens"`
	Top10      float64    `json:"top10"`      // overlap
	Rank       float64    `json:"rank"`       // mean place of the runtime's choice among the server's, from 1; K+1 where it is not named
	Early      float64    `json:"early_abs"`  // mean |ln p − ln q| of the first places and behind special tokens, which are not counted
	Halves     [2]float64 `json:"halves_abs"` // mean |ln p − ln q| of the first and the second half of the sequences
	Step       [2]float64 `json:"step_abs"`   // the same before and behind index_topk
	StepN      int        `json:"step_tokens"`
	Places     []Place    `json:"places"`
}

// Place is one position: token ID at Pos of sequence Seq.
type Place struct {
	Seq   int     `json:"seq"`
	Pos   int     `json:"pos"`
	ID    int     `json:"id"`
	KL    float64 `json:"kl"`
	Delta float64 `json:"dnll"`
	Tail  float64 `json:"tail"`
}

// Repeat is the server against itself.
type Repeat struct {
	Tokens int     `json:"tokens"`
	Abs    float64 `json:"abs"` // mean |Δ log p|
	Max    float64 `json:"max"`
}

// Rank is one rank of a data parallel engine.
type Rank struct {
	Rank   int     `json:"rank"`
	Tokens int     `json:"tokens"`
	Abs    float64 `json:"abs"`
}

// Sign is a fault that was tried: how near to the server the runtime comes with it.
type Sign struct {
	Name string  `json:"name"`
	KL   float64 `json:"kl"`
}

// Check is one line of the verdict.
type Check struct {
	ID    string `json:"id"`
	State string `json:"state"` // pass, fail, undecided, none
	Line  string `json:"line"`
}

// Probe is one functional probe.
type Probe struct {
	Name  string `json:"name"`
	State string `json:"state"` // pass, fail, none
	Line  string `json:"line"`
	Curl  string `json:"curl"`
}

// The states of a check.
const (
	passed    = "pass"
	failed    = "fail"
	undecided = "undecided"
	none      = "none"
)
