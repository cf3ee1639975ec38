package tokenizer

import "errors"

// The kinds of errors; use errors.Is.
var (
	// ErrUnsupported: a tokenizer of a kind that this package does not know.
	ErrUnsupported = errors.New("unsupported tokenizer")
	// ErrInvalid: a file that is not a consistent tokenizer.json.
	ErrInvalid = errors.New("invalid tokenizer.json")
)

// Error says what is wrong with which part of a tokenizer.json.
type Error struct {
	File   string // "" when parsed from memory
	Field  string // for example "pre_tokenizer.pretokenizers[0].pattern"
	Reason string
	Kind   error // ErrUnsupported or ErrInvalid
}

func (e *Error) Error() string {
	s := "tokenizer: "
	if e.File != "" {
		s += e.File + ": "
	}
	if e.Field != "" {
		s += e.Field + ": "
	}
	return s + e.Reason
}

// Is matches the error's kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// Hint says what a person can do about it.
func (e *Error) Hint() string {
	if e.Kind == ErrUnsupported {
		return "only the byte-level BPE tokenizers of the GLM families are known; pass token ids instead of text"
	}
	return "copy tokenizer.json again from the model's release"
}

func unsupported(field, reason string) error {
	return &Error{Field: field, Reason: reason, Kind: ErrUnsupported}
}

func invalid(field, reason string) error {
	return &Error{Field: field, Reason: reason, Kind: ErrInvalid}
}
