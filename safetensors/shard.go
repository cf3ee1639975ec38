package safetensors

import (
	"errors"
	"io"
	"io/fs"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/source"
)

// shard is one open file of a File or a Checkpoint.
type shard struct {
	path string // for messages
	name string // base name, key in the pool
	pool *pool
	stat fs.FileInfo
	header
}

// openShard reads the header of a file. The file is kept open in the pool as
// long as there is room.
func openShard(p *pool, path, name string) (*shard, error) {
	s := &shard{path: path, name: name, pool: p}
	h, err := p.acquire(name, func(fsx.Input) error { return nil })
	if err != nil {
		return nil, s.openError(err)
	}
	defer p.release(h)
	if s.stat, err = h.file.Stat(); err != nil {
		return nil, fault(path).io(err)
	}
	if !s.stat.Mode().IsRegular() {
		return nil, fault(path).at(ErrPath, "", -1, "is not a regular file")
	}
	head, err := readHeader(h.file, s.stat.Size(), path, name)
	if err != nil {
		return nil, err
	}
	s.header = *head
	return s, nil
}

func (s *shard) openError(err error) error {
	var own *Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Kind: ErrNotFound, File: s.path, Offset: -1, Reason: "does not exist", Err: err}
	default:
		return &Error{Kind: ErrIO, File: s.path, Offset: -1, Reason: "cannot be opened", Err: err}
	}
}

// checkSame makes sure that a file opened anew is the one whose header was
// read.
func (s *shard) checkSame(f fsx.Input) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if !fsx.SameFile(now, s.stat) || now.Size() != s.stat.Size() || !now.ModTime().Equal(s.stat.ModTime()) {
		return &Error{Kind: ErrChanged, File: s.path, Offset: -1, Reason: "was replaced or changed after its header was read"}
	}
	return nil
}

// ReadAt implements io.ReaderAt on the whole file with typed errors.
func (s *shard) ReadAt(p []byte, off int64) (int, error) {
	h, err := s.pool.acquire(s.name, s.checkSame)
	if err != nil {
		return 0, s.openError(err)
	}
	defer s.pool.release(h)
	n, err := h.file.ReadAt(p, off)
	switch {
	case err == nil || n == len(p):
		return n, nil
	case errors.Is(err, source.ErrChanged):
		return n, &Error{Kind: ErrChanged, File: s.path, Offset: -1, Reason: "changed after its header was read", Err: err}
	case err != io.EOF:
		return n, &Error{Kind: ErrIO, File: s.path, Offset: off + int64(n), Reason: "cannot be read", Err: err}
	case off+int64(n) >= s.stat.Size():
		return n, io.EOF
	default:
		return n, &Error{Kind: ErrTruncated, File: s.path, Offset: off + int64(n),
			Reason: "ends early: it became shorter while in use"}
	}
}

// readTensor fills p from byte off of a tensor's data.
func (s *shard) readTensor(t Info, off int64, p []byte) error {
	if off < 0 || int64(len(p)) > t.Size-off || t.Offset < s.dataStart || t.Size > s.stat.Size()-t.Offset {
		return &Error{Kind: ErrRange, File: s.path, Tensor: t.Name, Offset: -1,
			Reason: "has " + commas(t.Size) + " bytes; asked for " + commas(len(p)) + " from byte " + commas(off)}
	}
	if len(p) == 0 {
		return nil
	}
	_, err := s.ReadAt(p, t.Offset+off)
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		named := *e
		named.Tensor = t.Name
		return &named
	default: // io.EOF cannot come: the range lies inside the file
		return &Error{Kind: ErrTruncated, File: s.path, Tensor: t.Name, Offset: t.Offset + off, Reason: "ends early"}
	}
}

// rowRange translates rows lo to hi along the first dimension into bytes.
func rowRange(path string, t Info, lo, hi int64, n int) (off int64, err error) {
	bad := func(kind error, reason string) (int64, error) {
		return 0, &Error{Kind: kind, File: path, Tensor: t.Name, Offset: -1, Reason: reason}
	}
	if len(t.Shape) == 0 {
		return bad(ErrShape, "is a scalar and has no rows")
	}
	if lo < 0 || hi < lo || hi > t.Shape[0] {
		return bad(ErrRange, "has "+commas(t.Shape[0])+" rows; asked for rows "+commas(lo)+" to "+commas(hi))
	}
	row := t.RowSize()
	if row < 0 {
		return bad(ErrDType, "of type "+t.DType.String()+" has rows that do not fill whole bytes")
	}
	if want := (hi - lo) * row; int64(n) != want {
		return bad(ErrRange, "was asked for "+commas(hi-lo)+" rows, "+commas(want)+" bytes, into a buffer of "+commas(n))
	}
	return lo * row, nil
}
