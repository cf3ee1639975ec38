package source

import (
	"context"
	"errors"

	"github.com/glmconv/glmconv/internal/lazy"
)

// Source is a flat set of files that can be read by ranges. Methods may be called
// concurrently; they end soon after their context does.
type Source interface {
	// Name is the address with the revision that is read, as
	// hf://org/name@COMMIT; it has no credentials and no query.
	Name() string
	// List returns the files, always the same ones. Names have no slash.
	List(ctx context.Context) ([]Entry, error)
	// Open asks for nothing yet.
	Open(ctx context.Context, name string) (File, error)
	// ReadSmall returns a whole file of at most limit bytes.
	ReadSmall(ctx context.Context, name string, limit int64) ([]byte, error)
	// Pinned returns what the source was pinned to, and whether nothing can
	// change it: a commit is, a listing is not.
	Pinned() (id string, immutable bool)
}

// Entry is a file as the source lists it.
type Entry struct {
	Name    string
	Size    int64
	SHA256  string // lower-case hexadecimal, "" if the source does not know
	Version string // what changes with the bytes: an entity tag, a commit and path
}

// File is an open file.
type File interface {
	// ReadAt is io.ReaderAt with a context.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	Entry() Entry
	// WillNeed and DontNeed say what is read soon and what is not; they promise
	// nothing and do not wait.
	WillNeed(off, n int64)
	DontNeed(off, n int64)
	Close() error
}

// The kinds of errors. Every [Error] matches one of them by errors.Is.
var (
	ErrAddress = errors.New("invalid address")                   // wrong grammar, unknown scheme
	ErrMissing = errors.New("not found")                         // no such repository, revision or file, as far as one may see
	ErrDenied  = errors.New("access denied")                     // the credentials do not suffice
	ErrRefused = errors.New("not what the source announced")     // lies of a server, hashes that differ
	ErrNetwork = errors.New("network failed")                    // past all tries
	ErrOffline = errors.New("not available offline")             // needs the network, which is switched off
	ErrBusy    = errors.New("the server asks to wait")           // longer than one is willing to
	ErrChanged = errors.New("source changed while it was read")  // another entity tag, another listing
	ErrLocal   = errors.New("cannot be done on a remote source") // needs a folder of the local disk
)

// Error is a failure of a source. Where is an address without credentials and
// query.
type Error struct {
	Kind   error
	Where  string
	Reason string
	Advice string
	Err    error // underlying error, or nil; its text is not shown
}

func (e *Error) Error() string { return e.Where + ": " + e.Reason }

// Hint says what a person can do.
func (e *Error) Hint() string { return e.Advice }

// Unwrap returns the kind and the underlying error.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

var scheme = lazy.Regexp(`^([a-z][a-z0-9+.-]+)://`)

// Scheme returns the scheme of an address, "" for a path of the local disk. One
// letter is a drive, not a scheme.
func Scheme(address string) string {
	if m := scheme().FindStringSubmatch(address); m != nil {
		return m[1]
	}
	return ""
}
