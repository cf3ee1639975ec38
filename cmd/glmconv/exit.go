package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
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

// exits explains every exit code.
var exits = []struct {
	code                 int
	means, cause, remedy string
}{
	{exitOK, "done, or done before", "the work is finished, the verdict is good, or there was nothing left to do", "nothing to do"},
	{exitNegative, "the verdict is negative",
		"verify, check or diff found what must not be; repair left something broken; recipe refuses; bench missed its goal",
		"read the lines that begin with a cross; explain their codes; nothing was changed"},
	{exitUsage, "wrong usage, or a combination that cannot be served", "a flag, an argument or a scheme that does not go with the others",
		"the hint names what does; glmconv COMMAND --help has every flag, glmconv plan what would load"},
	{exitUndecided, "undecided", "verify read too few tokens or flat logits, check could judge nothing of this layout, recipe fits only just",
		"give verify more or other text (--tokens, --text); a script treats it as neither good nor bad"},
	{exitBadInput, "bad input", "the checkpoint is malformed, inconsistent or unsupported; the message names file, tensor and byte",
		"never worth a retry: fetch or make the file again; glmconv check DIR lists all that is wrong"},
	{exitIO, "I/O failed", "a full or failing disk, or a network that is gone",
		"what was complete is kept: remove the cause and repeat the command, quantize with --resume"},
	{exitTemporary, "temporary", "another process holds the folder, a part is not there yet, or the source changed in between", "wait and repeat the command"},
	{exitInterrupted, "interrupted", "Ctrl-C or a signal", "nothing temporary is left that cannot be resumed; the hint says how to go on"},
}

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
	fmt.Fprintf(w, "glmconv: %s\n", safetext.Line(oneLine(err.Error())))
	h := hintOf(err)
	switch {
	case h != "":
	case errors.Is(err, syscall.ENOTDIR):
		h = "give the directory that holds config.json and the shards"
	case code == exitIO:
		h = "once the cause is gone, repeat the command"
	case code == exitTemporary:
		h = "wait for the other process to end and repeat the command"
	}
	if h != "" {
		fmt.Fprintf(w, "hint: %s\n", safetext.Line(oneLine(h)))
	}
	return code
}

// flagHints are the flags and commands by which a user follows the advice of an
// error whose package knows none.
var flagHints = []struct {
	is    error
	flags string
}{
	{mtp.ErrFinished, "--out DIR"},
	{mtp.ErrLayer, "leave --layer out"},
	{convert.ErrBusy, "--index"},
	{quant.ErrImpossible, "--scheme, --format, --group-size, --ignore, --target, --mtp, --requantize, --allow-lossy-source"},
	{quant.ErrIncomplete, "glmconv inspect lists what is missing; glmconv repair SRC --from BASE takes it from there"},
	{quant.ErrIncompleteMTP, "--mtp drop; glmconv repair SRC --from BASE"},
	{quant.ErrMemory, "--max-memory"},
	{quant.ErrMismatch, "--ignore, --target"},
	{convert.ErrPart, "--index 1 --count 4 is the first of four"},
	{quant.ErrPattern, "--ignore, --target; glmconv inspect --tensors lists the names"},
}

// wayFlags are those for what a folder is found to be.
var wayFlags = map[origin.Kind]string{
	origin.MTPAbsent:   "--mtp drop; glmconv repair SRC --from BASE",
	origin.MTPShape:    "--mtp drop",
	origin.StaleCopies: "--mtp drop",
	origin.Leftover:    "glmconv check --weights",
}

// hintOf returns the advice of the outermost error that has some, with the flags
// that it takes.
func hintOf(err error) string {
	var h hinter
	if !errors.As(err, &h) || h.Hint() == "" {
		return ""
	}
	for _, f := range flagHints {
		if errors.Is(err, f.is) {
			return h.Hint() + " (" + f.flags + ")"
		}
	}
	var f *origin.Finding
	if errors.As(err, &f) && wayFlags[f.Kind] != "" {
		return h.Hint() + " (" + wayFlags[f.Kind] + ")"
	}
	var q *quant.Error
	if errors.As(err, &q) && q.Resumable {
		return h.Hint() + " (the same command with --resume)"
	}
	return h.Hint()
}

// exitCodes are the exit codes of errors of libraries, the first that matches.
var exitCodes = []struct {
	code int
	is   []error
}{
	{exitBadInput, []error{syscall.ELOOP, syscall.ENAMETOOLONG, syscall.ENOTDIR}}, // a name, not a disk
	{exitInterrupted, []error{context.Canceled, context.DeadlineExceeded}},
	{exitUsage, []error{source.ErrAddress, source.ErrLocal}},
	{exitTemporary, []error{source.ErrBusy, source.ErrChanged}},
	{exitBadInput, []error{source.ErrMissing, source.ErrDenied, source.ErrRefused}},
	{exitIO, []error{source.ErrNetwork, source.ErrOffline}},
	{exitUsage, []error{quant.ErrImpossible, quant.ErrPattern, convert.ErrPart, quant.ErrMemory, convert.ErrDestination, convert.ErrUnfinished, engine.ErrUnknown}},
	{exitTemporary, []error{safetensors.ErrLocked, safetensors.ErrChanged, convert.ErrSourceChanged, convert.ErrResultChanged}},
	{exitBadInput, []error{quant.ErrSource, quant.ErrIncomplete, quant.ErrIncompleteMTP, quant.ErrMismatch, quant.ErrNonFinite}},
	{exitIO, []error{safetensors.ErrIO, convert.ErrSpace}},
	{exitBadInput, []error{fs.ErrNotExist}},
}

// codeOf maps an error to its exit code: what the command says itself, the kinds
// of the libraries, the operating system, and else bad input.
func codeOf(err error) int {
	var ee *exitError
	if errors.As(err, &ee) {
		return ee.code
	}
	var output *outputError
	if errors.As(err, &output) {
		return output.exitCode()
	}
	var input *safetensors.InputError
	if errors.As(err, &input) {
		return exitBadInput
	}
	for _, e := range exitCodes {
		if slices.ContainsFunc(e.is, func(kind error) bool { return errors.Is(err, kind) }) {
			return e.code
		}
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
