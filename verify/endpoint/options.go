package endpoint

import (
	"errors"
	"time"

	"github.com/glmconv/glmconv/verify"
)

// Kind is the protocol of a server.
type Kind string

// The kinds. vllm-ascend answers as vLLM does.
const (
	VLLM        Kind = "vllm"
	SGLang      Kind = "sglang"
	LlamaPython Kind = "llama-cpp-python"
	LlamaServer Kind = "llama-server"
	Glmconv     Kind = "glmconv"
)

// Kinds lists them.
var Kinds = []Kind{VLLM, SGLang, LlamaPython, LlamaServer, Glmconv}

// Options say what is asked and how. The zero value of a field is its default.
type Options struct {
	URLs        []string // of servers, with or without /v1; several are judged one by one and must be alike
	Kind        Kind     // "": found out
	Model       string   // "": the first that the server names
	Key         string   // API key
	TopK        int      // tokens asked for at a place; 0: 20, and more where logits are flat; -1: the vocabulary
	Concurrency int      // requests at once; 0: 1
	Timeout     time.Duration
	Insecure    bool // TLS certificates are not checked
	Long        bool // one sequence of 4096 tokens more
	Chat        bool // prove template and special tokens
	Drafts      bool // judge the acceptance of drafts
	Functional  bool // the twelve probes
	// Verify says what is read, and how the two folders are compared.
	Verify verify.Options
	// Progress is told how much is done of what; it may be nil.
	Progress func(done, total int64, stage string)
}

func (o *Options) setDefaults() {
	if o.Concurrency <= 0 {
		o.Concurrency = 1
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Verify.MaxMemory <= 0 {
		o.Verify.MaxMemory = 1 << 30
	}
}

func (o *Options) progress(done, total int, stage string) {
	if o.Progress != nil {
		o.Progress(int64(done), int64(total), stage)
	}
}

// The kinds of errors.
var (
	ErrAddress  = errors.New("no address of a server")
	ErrNotReady = errors.New("the server is not ready")
	ErrLost     = errors.New("the connection broke")
	ErrAnswer   = errors.New("the server's answer is not what it should be")
	ErrModel    = errors.New("the server has another model")
)

// Error is an error with its kind, and what the user can do.
type Error struct {
	Kind          error
	Where, Reason string
	Advice        string
}

func (e *Error) Error() string {
	if e.Where == "" {
		return e.Reason
	}
	return e.Where + ": " + e.Reason
}

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Hint is what the user can do, or "".
func (e *Error) Hint() string { return e.Advice }
