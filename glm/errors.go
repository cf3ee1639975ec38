package glm

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels that errors of this package match with errors.Is. All of them
// mean bad input: trying again never helps.
var (
	// ErrUnsupported: well-formed, but a model or feature this tool does not
	// know. ErrQuantized errors match it as well.
	ErrUnsupported = errors.New("unsupported checkpoint")
	// ErrInvalid: malformed or contradicting itself.
	ErrInvalid = errors.New("invalid checkpoint")
	// ErrQuantized: full-precision weights were wanted and the checkpoint is
	// quantised already.
	ErrQuantized = errors.New("checkpoint is already quantised")
)

// ConfigError says which field of config.json stands in the way and what to
// do. Kind is ErrUnsupported, ErrInvalid or ErrQuantized.
type ConfigError struct {
	Field  string // dotted path in config.json, "" for the file as a whole
	Value  string // the value found, as JSON; "" when there is none
	Reason string
	Advice string // what the user can do; "" when there is nothing to say
	Kind   error
}

// Error returns one line: field, value, reason. The hint is not part of it.
func (e *ConfigError) Error() string {
	var b strings.Builder
	b.WriteString("config.json: ")
	if e.Field != "" {
		b.WriteString(e.Field)
		if e.Value != "" {
			b.WriteString(" = " + e.Value)
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Is matches the error's kind; ErrQuantized is a kind of ErrUnsupported.
func (e *ConfigError) Is(target error) bool {
	return target == e.Kind || (target == ErrUnsupported && e.Kind == ErrQuantized)
}

// Hint says what the user can do; "" when there is nothing to say.
func (e *ConfigError) Hint() string { return e.Advice }

// TensorError says which tensor of a checkpoint does not fit the family's
// table. Kind is ErrInvalid or ErrQuantized.
type TensorError struct {
	Tensor string
	File   string // shard, "" when unknown
	Reason string
	Advice string
	Kind   error
}

// Error returns one line: file, tensor, reason.
func (e *TensorError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("tensor %s: %s", e.Tensor, e.Reason)
	}
	return fmt.Sprintf("%s: tensor %s: %s", e.File, e.Tensor, e.Reason)
}

// Is matches the error's kind; ErrQuantized is a kind of ErrUnsupported.
func (e *TensorError) Is(target error) bool {
	return target == e.Kind || (target == ErrUnsupported && e.Kind == ErrQuantized)
}

// Hint says what the user can do; "" when there is nothing to say.
func (e *TensorError) Hint() string { return e.Advice }
