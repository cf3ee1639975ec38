package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

var (
	mu     sync.RWMutex
	mounts = map[string]*Folder{}
)

// Mount lists a source and lets its name stand for a folder until unmount is
// called. ctx ends the reads of the folder. Mounting a name twice is an error of
// the caller and returns one that matches fs.ErrExist.
func Mount(ctx context.Context, src Source) (unmount func(), err error) {
	list, err := src.List(ctx)
	if err != nil {
		return nil, err
	}
	f := &Folder{ctx: ctx, src: src, entries: make(map[string]Entry, len(list))}
	for _, e := range list {
		f.entries[e.Name] = e
	}
	key := filepath.Clean(src.Name())
	mu.Lock()
	defer mu.Unlock()
	if _, ok := mounts[key]; ok {
		return nil, &fs.PathError{Op: "mount", Path: src.Name(), Err: fs.ErrExist}
	}
	mounts[key] = f
	return func() {
		mu.Lock()
		defer mu.Unlock()
		delete(mounts, key)
	}, nil
}

// Find returns the folder mounted under a name, nil if there is none.
func Find(name string) *Folder {
	mu.RLock()
	defer mu.RUnlock()
	if len(mounts) == 0 {
		return nil
	}
	return mounts[filepath.Clean(name)]
}

// Join puts the name of a file behind that of a folder. Unlike filepath.Join it
// keeps both slashes of an address.
func Join(dir, name string) string {
	if Scheme(dir) != "" {
		return dir + "/" + name
	}
	return filepath.Join(dir, name)
}

// Folder is a mounted source, with the calls of a folder of a disk.
type Folder struct {
	ctx     context.Context //nolint:containedctx // lives as long as the mount
	src     Source
	entries map[string]Entry
}

// Source returns what is mounted.
func (f *Folder) Source() Source { return f.src }

// Settle is called before what was made of a folder is finished. A source that has
// a method of that name has the last word then: the bytes it could not check as
// they passed, a listing that moved.
func (f *Folder) Settle(ctx context.Context) error {
	if s, ok := f.src.(interface{ Settle(context.Context) error }); ok {
		return s.Settle(ctx)
	}
	return nil
}

// Checked says how the bytes of a file that were read were held against the
// listing: "sha256", "git-sha1", or "size+etag" where no hash was compared.
func (f *Folder) Checked(name string) string {
	if s, ok := f.src.(interface{ Checked(name string) string }); ok {
		return s.Checked(name)
	}
	return "size+etag"
}

// Stat describes a file as it was listed.
func (f *Folder) Stat(name string) (fs.FileInfo, error) {
	e, ok := f.entries[name]
	if !ok {
		return nil, f.missing("stat", name)
	}
	return info{e}, nil
}

func (f *Folder) missing(op, name string) error {
	return &fs.PathError{Op: op, Path: Join(f.src.Name(), name), Err: fs.ErrNotExist}
}

// ReadDir lists the files by name.
func (f *Folder) ReadDir() []fs.DirEntry {
	out := make([]fs.DirEntry, 0, len(f.entries))
	for _, e := range f.entries {
		out = append(out, fs.FileInfoToDirEntry(info{e}))
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return out
}

// Open opens a file of the listing.
func (f *Folder) Open(name string) (*Handle, error) {
	if _, ok := f.entries[name]; !ok {
		return nil, f.missing("open", name)
	}
	file, err := f.src.Open(f.ctx, name)
	if err != nil {
		return nil, err
	}
	return &Handle{ctx: f.ctx, file: file}, nil
}

// ReadFile returns a whole file of at most limit bytes; the caller has compared
// limit with its size.
func (f *Folder) ReadFile(name string, limit int64) ([]byte, error) {
	if _, ok := f.entries[name]; !ok {
		return nil, f.missing("open", name)
	}
	return f.src.ReadSmall(f.ctx, name, limit)
}

// Handle is an open file of a folder, used as an *os.File that is only read.
// ReadAt may be called concurrently.
type Handle struct {
	ctx  context.Context //nolint:containedctx // that of the mount
	file File
	at   int64
}

// Stat describes the file as it was listed.
func (h *Handle) Stat() (fs.FileInfo, error) { return info{h.file.Entry()}, nil }

// ReadAt implements io.ReaderAt.
func (h *Handle) ReadAt(p []byte, off int64) (int, error) { return h.file.ReadAt(h.ctx, p, off) }

// Read implements io.Reader.
func (h *Handle) Read(p []byte) (int, error) {
	left := h.file.Entry().Size - h.at
	if left <= 0 {
		return 0, io.EOF
	}
	n, err := h.ReadAt(p[:min(int64(len(p)), left)], h.at)
	h.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// WillNeed and DontNeed pass on what the reader knows.
func (h *Handle) WillNeed(off, n int64) { h.file.WillNeed(off, n) }

// DontNeed is the opposite of WillNeed.
func (h *Handle) DontNeed(off, n int64) { h.file.DontNeed(off, n) }

// Close closes the file.
func (h *Handle) Close() error { return h.file.Close() }

// info describes a listed file in the words of io/fs. Its time is fixed: what
// changes with the bytes is the version in Sys.
type info struct{ e Entry }

func (i info) Name() string       { return i.e.Name }
func (i info) Size() int64        { return i.e.Size }
func (i info) Mode() fs.FileMode  { return 0o444 }
func (i info) ModTime() time.Time { return time.Unix(0, 0) }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return i.e }

// EntryOf returns the entry behind a description, false for a file of a disk.
func EntryOf(st fs.FileInfo) (Entry, bool) {
	e, ok := st.Sys().(Entry)
	return e, ok
}

// Bytes returns a File of what is in memory already.
func Bytes(e Entry, data []byte) File { return whole{e, bytes.NewReader(data)} }

type whole struct {
	e Entry
	r *bytes.Reader
}

func (w whole) ReadAt(_ context.Context, p []byte, off int64) (int, error) { return w.r.ReadAt(p, off) }
func (w whole) Entry() Entry                                               { return w.e }
func (w whole) WillNeed(int64, int64)                                      {}
func (w whole) DontNeed(int64, int64)                                      {}
func (w whole) Close() error                                               { return nil }
