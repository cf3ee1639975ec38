package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// disk is what every command writes through; nil: the operating system's files.
// Tests let it fail.
var disk safetensors.FS

// output is a file that a command writes when its work is done. A nil one is
// not asked for.
type output struct {
	flag, path string
	*fsx.Output
}

// openOutput makes sure, before the work, that the file of a flag can be
// written.
func openOutput(flag, path string) (*output, error) {
	if path == "" {
		return nil, nil
	}
	o, err := fsx.OpenOutput(disk, path)
	if err != nil {
		return nil, &outputError{flag: flag, path: path, err: err}
	}
	return &output{flag, path, o}, nil
}

// put writes what render writes.
func (o *output) put(render func(io.Writer) error) error {
	if o == nil {
		return nil
	}
	var b bytes.Buffer
	if err := render(&b); err != nil {
		return err
	}
	if err := o.Write(b.Bytes()); err != nil {
		return &outputError{flag: o.flag, path: o.path, err: err, late: true}
	}
	return nil
}

// outputError says that a file of a flag cannot be written: before the work, or
// late, when everything else is done.
type outputError struct {
	flag, path string
	err        error
	late       bool
}

func (e *outputError) Error() string {
	return fmt.Sprintf("--%s %s: cannot be written: %v", e.flag, e.path, e.err)
}

func (e *outputError) Unwrap() error { return e.err }

// exitCode is that of failed I/O, or of another process in the way.
func (e *outputError) exitCode() int {
	if errors.Is(e.err, fsx.ErrLocked) {
		return exitTemporary
	}
	return exitIO
}

// Hint is what the user can do.
func (e *outputError) Hint() string {
	if e.late {
		return "the file is as it was before; make room or choose another path, and run the command again"
	}
	return "nothing was done yet: make its folder, or choose another path"
}
