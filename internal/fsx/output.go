package fsx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Output is a file that a command writes at its end beside its real work: a
// report, a table. No lock of a directory guards it, so that writers of the same
// path take turns: whoever comes last has its whole file there.
type Output struct {
	fs     FS
	path   string
	stream bool // a pipe, a terminal, /dev/null: nothing to replace
}

// outputPatience is how long a writer waits for another one of the same path.
const outputPatience = 30 * time.Second

// OpenOutput finds out whether path can be written, before the work whose
// result is to go there. It leaves nothing behind and does not touch a file that
// is there. A link is followed. The error is one of package os, or matches
// [ErrLocked].
func OpenOutput(fsys FS, path string) (*Output, error) {
	o := &Output{fs: Or(fsys), path: path}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, &fs.PathError{Op: "write", Path: path, Err: syscall.EISDIR}
	case !st.Mode().IsRegular():
		o.stream = true
		return o, nil
	default:
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	if _, err := os.Lstat(path); err == nil {
		if o.path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	}
	return o, o.Replace(func(string) error { return nil })
}

// Write puts data there, whole or not at all.
func (o *Output) Write(data []byte) error {
	if !o.stream {
		return o.Replace(func(path string) error { return WriteFile(o.fs, path, data) })
	}
	f, err := os.OpenFile(o.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Replace runs write, which is to make the file anew under a temporary name and
// to rename it, while no other Output of the path does.
func (o *Output) Replace(write func(path string) error) (err error) {
	unlock, err := o.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return write(o.path)
}

// Stream reports whether the path is not a regular file, which has nothing to
// replace.
func (o *Output) Stream() bool { return o.stream }

func (o *Output) lock() (unlock func() error, err error) {
	dir, name := filepath.Split(o.path)
	for end := time.Now().Add(outputPatience); ; time.Sleep(10 * time.Millisecond) {
		unlock, err = Lock(dir + "." + name + ".lock" + tempSuffix)
		if !errors.Is(err, ErrLocked) || time.Now().After(end) {
			break
		}
	}
	if errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("%s: %w", o.path, ErrLocked)
	}
	return unlock, err
}

// Streams reports whether what is written is added to a pipe or a terminal, and
// not a file that is made anew.
func (o *Output) Streams() bool { return o.stream }
