package mtp

import (
	"errors"
	"fmt"
)

// Reasons why a checkpoint cannot be remapped; an [*Error] matches one of them
// by errors.Is. All of them are bad input: trying again never helps.
var (
	ErrNoMTP     = errors.New("no MTP layer")             // the family or this checkpoint has none
	ErrRotated   = errors.New("rotated checkpoint")       // copies would need the rotation
	ErrQuantized = errors.New("quantised embedding")      // the copies must be full precision
	ErrShape     = errors.New("tensor does not fit")      // shape or dtype differ from config.json
	ErrStale     = errors.New("stale copy")               // a copy is there, of another vocabulary
	ErrConflict  = errors.New("file in the way")          // something else stands under the new name
	ErrNoUndo    = errors.New("nothing to undo")          // no remapping in place was found
	ErrChanged   = errors.New("changed since the remap")  // undoing would lose what came later
	ErrFinished  = errors.New("finished conversion")      // changing it in place would make its manifest wrong
	ErrLayer     = errors.New("no such MTP layer")        // Options.Layer is another layer
	ErrMissing   = errors.New("source tensor is missing") // no embedding or head to copy
)

// Error says why a checkpoint cannot be remapped.
type Error struct {
	Kind   error  // one of the sentinels above
	Where  string // file or tensor
	Reason string
	Advice string // what the user can do, "" when there is nothing to say
}

// Error returns one line: where and why.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Where, e.Reason) }

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Hint says what the user can do; "" when there is nothing to say.
func (e *Error) Hint() string { return e.Advice }

func fail(kind error, where, hint, format string, args ...any) *Error {
	return &Error{Kind: kind, Where: where, Reason: fmt.Sprintf(format, args...), Advice: hint}
}
