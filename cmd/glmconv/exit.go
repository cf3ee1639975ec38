package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/safetensors"
)

// The exit codes of the command line contract.
const (
	exitOK          = 0
	exitNegative    = 1
	exitUsage       = 2
	exitUndecided   = 3
	exitBadInput    = 65
	exitIO          = 74
	exitTemporary   = 75
	exitInterrupted = 130
)

// exitError carries an exit code; silent ones print nothing, because the
// command has said what there is to say.
type exitError struct {
	code   int
	err    error
	silent bool
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usagef is an error about the command line itself.
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// hinter is an error that knows what the user can do.
type hinter interface{ Hint() string }

// coder is an error that knows its exit code.
type coder interface{ ExitCode() int }

// report prints an error as "glmconv: …" with its hint and returns the code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	code := codeOf(err)
	var ee *exitError
	if errors.As(err, &ee) && ee.silent {
		return code
	}
	fmt.Fprintf(w, "glmconv: %s\n", oneLine(err.Error()))
	if h := hintOf(err); h != "" {
		fmt.Fprintf(w, "hint: %s\n", oneLine(h))
	}
	return code
}

// flagHints are hints that name flags, for errors of libraries that know none.
var flagHints = []struct {
	is   error
	hint string
}{
	{mtp.ErrFinished, "remap the source and convert that, or use --out DIR, which makes a directory without a manifest"},
	{mtp.ErrLayer, "leave --layer out: config.json implies it"},
}

// hintOf returns what the user can do: in terms of flags where flags can do
// it, else the advice of the outermost error that has some.
func hintOf(err error) string {
	for _, f := range flagHints {
		if errors.Is(err, f.is) {
			return f.hint
		}
	}
	var h hinter
	if errors.As(err, &h) && h.Hint() != "" {
		return h.Hint()
	}
	return ""
}

// codeOf maps an error to its exit code: what it says itself, then
// interruption, locks, the operating system, and else bad input.
func codeOf(err error) int {
	var ee *exitError
	if errors.As(err, &ee) {
		return ee.code
	}
	var c coder
	if errors.As(err, &c) {
		return c.ExitCode()
	}
	switch {
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG): // a name, not a disk
		return exitBadInput
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, safetensors.ErrLocked), errors.Is(err, safetensors.ErrChanged):
		return exitTemporary
	case errors.Is(err, safetensors.ErrIO):
		return exitIO
	case errors.Is(err, fs.ErrNotExist):
		return exitBadInput
	}
	var se *safetensors.Error
	if errors.As(err, &se) {
		return exitBadInput
	}
	var errno syscall.Errno
	var pathErr *fs.PathError
	if errors.As(err, &errno) || errors.As(err, &pathErr) || errors.Is(err, io.ErrShortWrite) {
		return exitIO
	}
	return exitBadInput
}

func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(s, "\n", " ")), " ")
}
