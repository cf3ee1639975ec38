package runtime

import (
	"errors"
	"fmt"

	"github.com/glmconv/glmconv/quant/layout"
)

// The kinds of errors; use errors.Is.
var (
	// ErrUnsupported: a family, layout or scheme that has no forward pass here.
	ErrUnsupported = errors.New("not supported by the runtime")
	// ErrIncomplete: a tensor that the forward pass needs is not there.
	ErrIncomplete = errors.New("incomplete checkpoint")
	// ErrToken: a token id outside of the vocabulary.
	ErrToken = errors.New("token id out of range")
	// ErrNoMTP: drafts asked of a checkpoint without an MTP layer.
	ErrNoMTP = errors.New("no MTP layer")
)

// Error says what is wrong with which module of a checkpoint.
type Error struct {
	Where  string // tensor or module, "" for the checkpoint
	Reason string
	Kind   error // one of the above
}

func (e *Error) Error() string {
	if e.Where == "" {
		return "runtime: " + e.Reason
	}
	return "runtime: " + e.Where + ": " + e.Reason
}

// Uncomputable reports whether an error says that a checkpoint has no forward pass,
// whatever is asked of it: what it is, or how its weights are stored.
func Uncomputable(err error) bool {
	for _, kind := range []error{ErrUnsupported, ErrIncomplete, layout.ErrForeign, layout.ErrMalformed} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// Is matches the error's kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

func unsupported(where, format string, args ...any) error {
	return &Error{Where: where, Reason: fmt.Sprintf(format, args...), Kind: ErrUnsupported}
}
