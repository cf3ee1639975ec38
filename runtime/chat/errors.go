package chat

import "errors"

var (
	// ErrNoTemplate: the directory holds no chat template.
	ErrNoTemplate = errors.New("no chat template")
	// ErrTemplate: the template is damaged, uses what is refused, or raised an error.
	ErrTemplate = errors.New("chat template")
	// ErrLimit: a bound on output, loop iterations or input was reached.
	ErrLimit = errors.New("limit reached")
	// ErrInvalid: messages or tools are not what they should be.
	ErrInvalid = errors.New("invalid conversation")
)
