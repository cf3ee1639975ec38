package safetensors

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
)

// File is one open safetensors file. Its methods may be called concurrently.
type File struct {
	shard
	byName map[string]int32
}

// OpenFile opens a file and checks its header by every rule of the format; no
// data is read. The error is an [*Error].
func OpenFile(path string) (*File, error) {
	p := newPool(1, openRegular)
	s, err := openShard(p, path, path)
	if err != nil {
		p.close()
		return nil, err
	}
	f := &File{shard: *s, byName: make(map[string]int32, len(s.tensors))}
	for i := range f.tensors {
		f.tensors[i].File = filepath.Base(path)
		f.byName[f.tensors[i].Name] = int32(i)
	}
	return f, nil
}

// openRegular opens for reading. Other files than regular ones are refused
// before the open, which would wait for a writer of a named pipe.
func openRegular(path string) (fsx.Input, error) {
	f, err := fsx.OpenInput(path)
	var in *fsx.InputError
	if errors.As(err, &in) {
		return nil, notRead(in)
	}
	return f, err
}

// Path returns the path given to OpenFile.
func (f *File) Path() string { return f.path }

// Size returns the length of the file in bytes.
func (f *File) Size() int64 { return f.stat.Size() }

// DataOffset returns where the data begins: 8 plus the length of the header.
func (f *File) DataOffset() int64 { return f.dataStart }

// Tensors returns all tensors in the order of their data.
func (f *File) Tensors() []Info { return slices.Clone(f.tensors) }

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Info, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Info{}, false
	}
	return f.tensors[i], true
}

// Metadata returns a copy of __metadata__, empty if there is none.
func (f *File) Metadata() map[string]string { return cloneMetadata(f.metadata) }

func cloneMetadata(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// HeaderBytes reads the header again: JSON with its padding, without the
// length before it.
func (f *File) HeaderBytes() ([]byte, error) {
	raw := make([]byte, f.dataStart-lengthSize)
	if _, err := f.ReadAt(raw, lengthSize); err != nil {
		return nil, err
	}
	return raw, nil
}

// ReadAt reads bytes of the file, as io.ReaderAt. Errors other than io.EOF
// are [*Error].
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &Error{Kind: ErrRange, File: f.path, Offset: -1, Reason: "asked for a negative offset"}
	}
	return f.shard.ReadAt(p, off)
}

// ReadTensor reads len(p) bytes of a tensor's data from byte off on.
func (f *File) ReadTensor(t Info, off int64, p []byte) error { return f.readTensor(t, off, p) }

// ReadRows reads rows lo to hi (exclusive) of a tensor; see [Checkpoint.ReadRows].
func (f *File) ReadRows(name string, lo, hi int64, dst []byte) error {
	t, ok := f.Tensor(name)
	if !ok {
		return &Error{Kind: ErrNotFound, File: f.path, Tensor: name, Offset: -1, Reason: "is not in this file"}
	}
	off, err := rowRange(f.path, t, lo, hi, len(dst))
	if err != nil {
		return err
	}
	return f.readTensor(t, off, dst)
}

// Close closes the file. Reading afterwards fails.
func (f *File) Close() error {
	f.pool.close()
	return nil
}

// HashFile returns the SHA-256 of a file in lower-case hexadecimal, and its
// size in bytes.
func HashFile(path string) (sha256hex string, size int64, err error) {
	fh, err := openRegular(path)
	if err != nil {
		if own := (*Error)(nil); errors.As(err, &own) {
			return "", 0, err
		}
		kind := ErrIO
		if errors.Is(err, fs.ErrNotExist) {
			kind = ErrNotFound
		}
		return "", 0, &Error{Kind: kind, File: path, Offset: -1, Reason: "cannot be opened", Err: err}
	}
	defer fh.Close()
	h := sha256.New()
	size, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{fh}, make([]byte, 1<<20))
	if err != nil {
		return "", 0, &Error{Kind: ErrIO, File: path, Offset: size, Reason: "cannot be read", Err: err}
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
