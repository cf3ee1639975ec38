package quant

import "fmt"

// Error is a failure with advice. Code is the exit code of the command line
// contract that fits it: 2 wrong usage, 65 bad input, 74 I/O, 75 temporary.
type Error struct {
	Code   int
	Reason string
	Advice string
	Err    error
}

// Error returns the reason, with its cause behind it.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Reason + ": " + e.Err.Error()
	}
	return e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what the user can do.
func (e *Error) Hint() string { return e.Advice }

// ExitCode is the command's exit code for this error.
func (e *Error) ExitCode() int { return e.Code }

func usageError(advice, format string, args ...any) error {
	return &Error{Code: 2, Reason: fmt.Sprintf(format, args...), Advice: advice}
}

func inputError(advice, format string, args ...any) error {
	return &Error{Code: 65, Reason: fmt.Sprintf(format, args...), Advice: advice}
}

// NonFiniteError reports a NaN or infinity in a source weight.
type NonFiniteError struct {
	File, Tensor string
	Row, Col     int64 // in the tensor as [rows, columns]
	Value        float32
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("%s: tensor %s: element [%d, %d] is %v", e.File, e.Tensor, e.Row, e.Col, e.Value)
}

// Hint says why such a weight is not converted.
func (e *NonFiniteError) Hint() string {
	return "one such value destroys its whole row or block when quantised; fetch the shard again, or repair the checkpoint"
}

// ExitCode is that of bad input.
func (e *NonFiniteError) ExitCode() int { return 65 }
