package safetensors

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"path/filepath"
	"sort"
	"sync/atomic"

	"github.com/glmconv/glmconv/internal/fsx"
)

// Writer writes the data of a planned file and takes its SHA-256. The file has
// a temporary name until Commit. A Writer is for one goroutine at a time, but
// for PutAt.
type Writer struct {
	fs      fsx.FS
	f       fsx.File
	plan    *FilePlan
	path    string       // final
	written int64        // and hashed
	put     atomic.Int64 // bytes that the file has been given
	started int64        // bytes whose way to the disk has begun
	hash    hash.Hash
	err     error // first failure; nothing is written after it
	done    bool
}

var errDone = errors.New("the file is finished")

// Create makes the temporary file in dir, reserves plan.Size bytes and writes
// the header; a nil fsys means the operating system's files. On failure
// nothing is left behind. Errors are [*Error]; ErrIO carries the cause, for
// instance ENOSPC for a disk that is too small.
func Create(fsys FS, dir string, plan *FilePlan) (*Writer, error) {
	w := &Writer{fs: fsx.Or(fsys), plan: plan, path: filepath.Join(dir, plan.Name)}
	f, err := fsx.CreateTemp(w.fs, w.path)
	if err != nil {
		return nil, w.fail("cannot be created", err)
	}
	w.f, w.hash = f, sha256.New()
	if err := f.Preallocate(plan.Size); err != nil {
		return nil, errors.Join(w.fail("cannot reserve "+commas(plan.Size)+" bytes", err), w.Abort())
	}
	if _, err := w.Write(plan.Header()); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return w, nil
}

// Path returns the final path.
func (w *Writer) Path() string { return w.path }

// Written returns the bytes written and hashed so far, header included.
func (w *Writer) Written() int64 { return w.written }

// fail notes the first failure.
func (w *Writer) fail(reason string, err error) error {
	w.err = w.failure(reason, w.written, err)
	return w.err
}

func (w *Writer) failure(reason string, at int64, err error) error {
	e := &Error{Kind: ErrIO, File: w.path, Tensor: w.tensorAt(at), Offset: -1, Reason: reason, Err: err}
	if w.f != nil {
		e.Offset = at
	}
	return e
}

// tensorAt names the tensor at a place of the file.
func (w *Writer) tensorAt(at int64) string {
	list := w.plan.Tensors()
	i := sort.Search(len(list), func(i int) bool { return list[i].Offset+list[i].Size > at })
	if i == len(list) || list[i].Offset > at {
		return ""
	}
	return list[i].Name
}

// Write appends data. More than the plan has room for is refused as a whole.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.room(p); err != nil {
		return 0, err
	}
	n, err := w.store(p, w.written)
	if err != nil {
		w.written += int64(n)
		return n, w.fail("cannot be written", err)
	}
	w.take(p)
	return n, nil
}

// PutAt writes a part of the file ahead of its turn, from byte off of the file
// on; Hash must follow in the order of the file. Any number of goroutines may
// call it at the same time, and with everything else but Commit and Abort.
func (w *Writer) PutAt(p []byte, off int64) error {
	if off < 0 || int64(len(p)) > w.plan.Size-off {
		return &Error{Kind: ErrSpec, File: w.path, Offset: off,
			Reason: "is planned with " + commas(w.plan.Size) + " bytes; " + commas(len(p)) + " were to be put behind them"}
	}
	if _, err := w.store(p, off); err != nil {
		return w.failure("cannot be written", off, err)
	}
	return nil
}

// Hash takes the bytes that come next in the file, which PutAt has written.
func (w *Writer) Hash(p []byte) error {
	if err := w.room(p); err != nil {
		return err
	}
	w.take(p)
	return nil
}

func (w *Writer) store(p []byte, off int64) (int, error) {
	n, err := w.f.WriteAt(p, off)
	w.put.Add(int64(n))
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// writeBackBytes is how much is written before the disk is asked to begin.
const writeBackBytes = 32 << 20

// take hashes what the file has and moves on.
func (w *Writer) take(p []byte) {
	w.hash.Write(p)
	w.written += int64(len(p))
	if due := w.written - w.started; due >= writeBackBytes {
		w.f.WriteBack(w.started, due)
		w.started = w.written
	}
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
	if have := min(w.written, w.put.Load()); w.err == nil && have != w.plan.Size {
		w.err = &Error{Kind: ErrSpec, File: w.path, Tensor: w.tensorAt(have), Offset: have,
			Reason: "is incomplete: " + commas(have) + " of " + commas(w.plan.Size) + " bytes of the file were written"}
	}
	if w.err != nil {
		return "", errors.Join(w.err, w.Abort())
	}
	w.done = true
	if err := fsx.Commit(w.fs, w.f, w.path); err != nil {
		return "", &Error{Kind: ErrIO, File: w.path, Offset: -1, Reason: "cannot be finished", Err: err}
	}
	return hex.EncodeToString(w.hash.Sum(nil)), nil
}

// Abort removes the temporary file. After Commit or Abort it does nothing, so
// that it can be deferred.
func (w *Writer) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	if err := fsx.Discard(w.fs, w.f); err != nil {
		return &Error{Kind: ErrIO, File: w.path, Offset: -1, Reason: "leaves a temporary file behind", Err: err}
	}
	return nil
}

// writeFile is fsx.WriteFile with a typed error.
func writeFile(fsys FS, dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	if err := fsx.WriteFile(fsx.Or(fsys), path, data); err != nil {
		return &Error{Kind: ErrIO, File: path, Offset: -1, Reason: "cannot be written", Err: err}
	}
	return nil
}
