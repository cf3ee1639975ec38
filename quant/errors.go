package quant

import (
	"errors"
	"fmt"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// The kinds of errors, for errors.Is. An [*Error] matches one of them; errors
// of reading a checkpoint are those of packages glm and safetensors.
var (
	ErrImpossible    = layout.ErrImpossible                         // scheme, format, family or dimensions do not go together; a *layout.ImpossibleError says why
	ErrPattern       = errors.New("unsuitable pattern")             // Options.Ignore, Options.Target: not a pattern, or it matches nothing
	ErrPart          = errors.New("no such part")                   // ConvertOptions.Index, Count
	ErrMemory        = errors.New("too little memory")              // ConvertOptions.MaxMemory is less than the plan needs
	ErrDestination   = errors.New("unsuitable destination")         // in the source, a file, not empty, or the result of another plan or source
	ErrUnfinished    = errors.New("unfinished conversion")          // the destination holds one of this plan and Resume is not set
	ErrSource        = errors.New("unsuitable source")              // what the plan needs is not there, or cannot be written
	ErrIncomplete    = errors.New("incomplete source")              // tensors of the model are missing
	ErrIncompleteMTP = errors.New("incomplete MTP layer")           // tensors of it are missing; MTPDrop converts without
	ErrMismatch      = errors.New("result that engines misread")    // they would take a module for something else than what is stored
	ErrSourceChanged = errors.New("source changed")                 // while it was converted, or between two runs of one conversion
	ErrResultChanged = errors.New("result changed")                 // something else writes to the destination
	ErrBusy          = errors.New("part is being written")          // by another process; matches safetensors.ErrLocked too
	ErrSpace         = errors.New("not enough space")               // on the destination's disk; nothing was written
	ErrStopped       = errors.New("conversion stopped")             // the context ended; matches its error too
	ErrIO            = safetensors.ErrIO                            // reading or writing failed; matches the system's error too
	ErrNonFinite     = errors.New("weight that is NaN or infinite") // a *NonFiniteError has the place
)

// Error is a failure of planning or converting.
type Error struct {
	Kind   error  // one of the sentinels
	Reason string // a sentence
	Advice string // what the caller can do, "" when there is nothing to say
	Err    error  // the cause, or nil
	// Resumable: the shards that are finished stay, and the same conversion with
	// ConvertOptions.Resume goes on with the others.
	Resumable bool
}

// Error returns the reason, with its cause behind it.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Reason + ": " + e.Err.Error()
	}
	return e.Reason
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Hint says what the caller can do; "" when there is nothing to say.
func (e *Error) Hint() string { return e.Advice }

func fail(kind error, advice, format string, args ...any) error {
	return &Error{Kind: kind, Reason: fmt.Sprintf(format, args...), Advice: advice}
}

// NonFiniteError reports a NaN or infinity in a source weight. It matches
// ErrNonFinite.
type NonFiniteError struct {
	File, Tensor string
	Row, Col     int64 // in the tensor as [rows, columns]
	Value        float32
}

// Error returns file, tensor, place and value.
func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("%s: tensor %s: element [%d, %d] is %v", e.File, e.Tensor, e.Row, e.Col, e.Value)
}

// Is matches ErrNonFinite.
func (e *NonFiniteError) Is(target error) bool { return target == ErrNonFinite }

// Hint says why such a weight is not converted.
func (e *NonFiniteError) Hint() string {
	return "one such value destroys its whole row or block when quantised; fetch the shard again, or repair the checkpoint"
}
