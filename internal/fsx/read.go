package fsx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// The bounds on what one file may hold, well above every published one.
const (
	MaxText  = 100_000_000 // bytes of a configuration, index, tokenizer, description, manifest or template
	MaxInput = 256 << 20   // bytes of a file that a flag names
	MaxName  = 255         // bytes of a file's name
)

// The kinds of files that are not read. Every [InputError] matches one of them
// by errors.Is.
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrTooLarge   = errors.New("file too large")
	ErrOutside    = errors.New("link leads out of the folder")
	ErrLoop       = errors.New("loop of links")
)

// InputError is a file that is not read, whatever the operating system would
// say. Trying again does not help: it is bad input, not a failure of a disk.
type InputError struct {
	Path   string
	Reason string
	Advice string
	Kind   error // one of the sentinels above, or fs.ErrNotExist for a link to nowhere
}

func (e *InputError) Error() string { return e.Path + ": " + e.Reason }

// Unwrap returns the kind.
func (e *InputError) Unwrap() error { return e.Kind }

// Hint says what a person can do about it.
func (e *InputError) Hint() string { return e.Advice }

// IsIO reports whether err is a failure of the operating system or of a disk,
// which says nothing about what the file holds: no missing file and no
// [InputError].
func IsIO(err error) bool {
	var in *InputError
	var path *fs.PathError
	var link *os.LinkError
	var errno syscall.Errno
	switch {
	case err == nil, errors.As(err, &in), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		return false
	}
	return errors.As(err, &path) || errors.As(err, &link) || errors.As(err, &errno)
}

// OpenRegular opens a file for reading, wherever links lead to it. Anything but
// a regular file is refused without being opened: opening a named pipe waits
// for a writer, and opening a device may do anything.
func OpenRegular(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, loop(path, err)
	}
	if !st.Mode().IsRegular() {
		return nil, notRegular(path, st.Mode())
	}
	f, err := os.OpenFile(path, os.O_RDONLY|noWait, 0) // replaced since we looked: does not wait either
	if err != nil {
		return nil, loop(path, err)
	}
	return stillRegular(f, path)
}

// ReadRegular reads a regular file of at most limit bytes. The error is an
// [*InputError] for one that is not regular or larger, else that of package os.
func ReadRegular(path string, limit int64) ([]byte, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, path, limit)
}

// readAll allocates by the file's size, once it is known to be within limit,
// and reads no more even if the file grows.
func readAll(f Input, path string, limit int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, tooLarge(path, limit)
	}
	buf := make([]byte, 0, st.Size()+1)
	for {
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return nil, err
		case int64(len(buf)) > limit:
			return nil, tooLarge(path, limit)
		case len(buf) == cap(buf):
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// Stoppable returns a reader of r that ends with the error of ctx once that is
// done.
func Stoppable(ctx context.Context, r io.Reader) io.Reader { return stoppable{ctx, r} }

type stoppable struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

func stillRegular(f *os.File, path string) (*os.File, error) {
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() {
		return f, nil
	}
	_ = f.Close()
	if err != nil {
		return nil, err
	}
	return nil, notRegular(path, st.Mode())
}

func notRegular(path string, m fs.FileMode) error {
	kind := ""
	switch {
	case m.IsDir():
		kind = " but a folder"
	case m&fs.ModeNamedPipe != 0:
		kind = " but a named pipe"
	case m&fs.ModeSocket != 0:
		kind = " but a socket"
	case m&fs.ModeDevice != 0:
		kind = " but a device"
	}
	return &InputError{Path: path, Reason: "is not a regular file" + kind, Kind: ErrNotRegular,
		Advice: "give a regular file: what comes from a pipe is written to a file first"}
}

func tooLarge(path string, limit int64) error {
	return &InputError{Path: path, Reason: "has more than " + strconv.FormatInt(limit, 10) + " bytes, far more than such a file holds", Kind: ErrTooLarge,
		Advice: "this is probably another kind of file under this name"}
}

// loop tells a loop of links from a failure.
func loop(path string, err error) error {
	if !errors.Is(err, syscall.ELOOP) {
		return err
	}
	return &InputError{Path: path, Reason: "is a link that leads back to itself", Kind: ErrLoop, Advice: "remove the link and put the file in its place"}
}

func outside(path, target string) error {
	return &InputError{Path: path, Reason: fmt.Sprintf("is a symlink to %s, which is not a relative path inside the directory", target), Kind: ErrOutside,
		Advice: "files of other folders are not read through links: copy the folder with `cp -rL`, or download it with `hf download --local-dir DIR REPO`"}
}

func dangling(path, target string) error {
	return &InputError{Path: path, Reason: fmt.Sprintf("is a symlink to %s, which does not exist", target), Kind: fs.ErrNotExist,
		Advice: "the download is incomplete; fetch this file again"}
}
