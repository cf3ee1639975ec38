package quant

import (
	"errors"
	"fmt"

	"github.com/glmconv/glmconv/quant/layout"
)

// The kinds of errors, for errors.Is. An [*Error] matches one of them, or one of
// package convert where a conversion failed; errors of reading a checkpoint are
// those of packages glm and safetensors.
var (
	ErrImpossible    = layout.ErrImpossible                         // scheme, format, family or dimensions do not go together; a *layout.ImpossibleError says why
	ErrPattern       = errors.New("unsuitable pattern")             // Options.Ignore, Options.Target: not a pattern, or it matches nothing
	ErrMemory        = errors.New("too little memory")              // convert.Options.MaxMemory is less than the plan needs
	ErrSource        = errors.New("unsuitable source")              // what the plan needs is not there, or cannot be written
	ErrIncomplete    = errors.New("incomplete source")              // tensors of the model are missing
	ErrIncompleteMTP = errors.New("incomplete MTP layer")           // tensors of it are missing; MTPDrop converts without
	ErrMismatch      = errors.New("result that engines misread")    // they would take a module for something else than what is stored
	ErrNonFinite     = errors.New("weight that is NaN or infinite") // a *NonFiniteError has the place
)

// Error is a failure of planning or converting.
type Error struct {
	Kind   error  // one of the sentinels
	Reason string // a sentence
	Advice string // what the caller can do, "" when there is nothing to say
	Err    error  // the cause, or nil
	// Resumable: the shards that are finished stay, and the same conversion with
	// convert.Options.Resume goes on with the others.
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
	return "one such value spoils what is computed with it, and its whole row or block when it is quantised; fetch the shard again, or repair the checkpoint"
}
