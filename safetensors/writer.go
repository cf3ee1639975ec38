package safetensors

import (
	"errors"
	"io"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/fsx"
)

// Writer writes the data of a planned file from its first byte to its last.
// The file has a temporary name until Commit. A Writer is for one goroutine;
// it hashes in a goroutine of its own, which ends with Commit or Abort.
type Writer struct {
	fs      fsx.FS
	f       fsx.File
	plan    *FilePlan
	path    string // final
	written int64
	started int64 // bytes whose way to the disk has begun
	hash    *hasher
	err     error // first failure; nothing is written after it
	done    bool
}

var errDone = errors.New("the file is finished")

// Create makes the temporary file in dir, reserves plan.Size bytes and writes
// the header. On failure nothing is left behind. Errors are [*Error]; ErrIO
// carries the cause, for instance ENOSPC for a disk that is too small.
func Create(fsys fsx.FS, dir string, plan *FilePlan) (*Writer, error) {
	w := &Writer{fs: fsys, plan: plan, path: filepath.Join(dir, plan.Name)}
	f, err := fsx.CreateTemp(fsys, w.path)
	if err != nil {
		return nil, w.fail("cannot be created", err)
	}
	w.f, w.hash = f, newHasher()
	if err := f.Preallocate(plan.Size); err != nil {
		return nil, errors.Join(w.fail("cannot reserve "+commas(plan.Size)+" bytes", err), w.Abort())
	}
	if _, err := w.Write(plan.Header); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return w, nil
}

// Path returns the final path.
func (w *Writer) Path() string { return w.path }

// Written returns the bytes written so far, header included.
func (w *Writer) Written() int64 { return w.written }

// fail notes the first failure.
func (w *Writer) fail(reason string, err error) error {
	e := &Error{Kind: ErrIO, File: w.path, Tensor: w.current(), Offset: -1, Reason: reason, Err: err}
	if w.f != nil {
		e.Offset = w.written
	}
	w.err = e
	return e
}

// current names the tensor at the present position.
func (w *Writer) current() string {
	lo, hi := 0, len(w.plan.Tensors)
	for lo < hi { // first tensor that ends after w.written
		if mid := (lo + hi) / 2; w.plan.Tensors[mid].Offset+w.plan.Tensors[mid].Size > w.written {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo == len(w.plan.Tensors) || w.plan.Tensors[lo].Offset > w.written {
		return ""
	}
	return w.plan.Tensors[lo].Name
}

// Write appends data. More than the plan has room for is refused as a whole.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.room(p); err != nil {
		return 0, err
	}
	hashed := make(chan struct{})
	w.hash.add(p, func() { close(hashed) })
	n, err := w.store(p)
	<-hashed
	return n, err
}

// WriteThen is Write for data that the caller gives away: hashing may go on
// after it has returned. free, unless nil, is called exactly once, from any
// goroutine, when p is no longer needed.
func (w *Writer) WriteThen(p []byte, free func()) error {
	err := w.room(p)
	if err == nil {
		_, err = w.store(p)
	}
	if err == nil {
		w.hash.add(p, free) // after the file has it: free means both
	} else if free != nil {
		free()
	}
	return err
}

// writeBackBytes is how much is written before the disk is asked to begin.
const writeBackBytes = 32 << 20

// store writes to the file. After a failure the hash is worthless, but then the
// file is given up.
func (w *Writer) store(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.written += int64(n)
	if due := w.written - w.started; due >= writeBackBytes {
		w.f.WriteBack(w.started, due)
		w.started = w.written
	}
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return n, w.fail("cannot be written", err)
	}
	return n, nil
}

// room refuses what the plan has no place for.
func (w *Writer) room(p []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.done {
		return w.fail("cannot be written", errDone)
	}
	if int64(len(p)) > w.plan.Size-w.written {
		w.err = &Error{Kind: ErrSpec, File: w.path, Offset: w.written,
			Reason: "is planned with " + commas(w.plan.Size) + " bytes; " + commas(w.written+int64(len(p))) + " were given"}
	}
	return w.err
}

// Commit checks that all planned bytes were written, makes them durable and
// gives the file its name. It returns the SHA-256 of the whole file in
// lower-case hexadecimal. On failure the temporary file is gone; only if the
// very last step failed, syncing the directory, the file is complete under its
// name.
func (w *Writer) Commit() (sha256hex string, err error) {
	if w.done {
		return "", &Error{Kind: ErrIO, File: w.path, Offset: -1, Reason: "cannot be finished", Err: errDone}
	}
	if w.err == nil && w.written != w.plan.Size {
		w.err = &Error{Kind: ErrSpec, File: w.path, Tensor: w.current(), Offset: w.written,
			Reason: "is incomplete: " + commas(w.written) + " of " + commas(w.plan.Size) + " bytes of the file were written"}
	}
	if w.err != nil {
		return "", errors.Join(w.err, w.Abort())
	}
	w.done = true
	sum := w.hash.finish()
	if err := fsx.Commit(w.fs, w.f, w.path); err != nil {
		return "", &Error{Kind: ErrIO, File: w.path, Offset: -1, Reason: "cannot be finished", Err: err}
	}
	return sum, nil
}

// Abort removes the temporary file. After Commit or Abort it does nothing, so
// that it can be deferred.
func (w *Writer) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	w.hash.finish()
	if err := fsx.Discard(w.fs, w.f); err != nil {
		return &Error{Kind: ErrIO, File: w.path, Offset: -1, Reason: "leaves a temporary file behind", Err: err}
	}
	return nil
}

// writeFile is fsx.WriteFile with a typed error.
func writeFile(fsys fsx.FS, dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	if err := fsx.WriteFile(fsys, path, data); err != nil {
		return &Error{Kind: ErrIO, File: path, Offset: -1, Reason: "cannot be written", Err: err}
	}
	return nil
}
