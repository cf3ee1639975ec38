package calib

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
)

// States of all tokens in front of a layer, in a file: the identity of the run,
// then for each sequence its states [tokens, hidden] F32 and the keys that its
// rows attend to (a count of rows, of each row the number of keys and the keys,
// all U32), and the SHA-256 of all that.

// statesFile is the name of the states in front of a layer.
func statesFile(l int) string { return fmt.Sprintf("states-%05d.bin", l) }

// stateWriter writes a file of states.
type stateWriter struct {
	fs   fsx.FS
	path string
	f    fsx.File
	w    *bufio.Writer
	sum  hash.Hash
}

func createStates(fsys fsx.FS, dir string, l int, id string) (*stateWriter, error) {
	s := &stateWriter{fs: fsys, path: filepath.Join(dir, statesFile(l)), sum: sha256.New()}
	f, err := fsx.CreateTemp(fsys, s.path)
	if err != nil {
		return nil, err
	}
	s.f, s.w = f, bufio.NewWriterSize(f, 1<<20)
	return s, s.write([]byte(id))
}

func (s *stateWriter) write(b []byte) error {
	_, _ = s.sum.Write(b)
	_, err := s.w.Write(b)
	return err
}

// put appends a sequence.
func (s *stateWriter) put(x []float32, span *runtime.Span) error {
	err := s.write(numeric.AppendF32(nil, x))
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(span.Keys)))
	for _, keys := range span.Keys {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(keys)))
		for _, k := range keys {
			b = binary.LittleEndian.AppendUint32(b, uint32(k))
		}
	}
	return errors.Join(err, s.write(b))
}

// commit gives the file its name.
func (s *stateWriter) commit() error {
	_, err := s.w.Write(s.sum.Sum(nil))
	if err = errors.Join(err, s.w.Flush()); err != nil {
		return errors.Join(err, s.abort())
	}
	f := s.f
	s.f = nil
	return fsx.Commit(s.fs, f, s.path)
}

// abort removes what was written, unless it was committed.
func (s *stateWriter) abort() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return fsx.Discard(s.fs, f)
}

// wholeStates reports whether a file of states is whole and of a run.
func wholeStates(dir string, l int, id string) bool {
	f, err := os.Open(filepath.Join(dir, statesFile(l)))
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() < int64(len(id)+sha256.Size) {
		return false
	}
	head, tail := make([]byte, len(id)), make([]byte, sha256.Size)
	sum := sha256.New()
	r := bufio.NewReaderSize(f, 1<<20)
	if _, err := io.ReadFull(r, head); err != nil || string(head) != id {
		return false
	}
	_, _ = sum.Write(head)
	if _, err := io.CopyN(sum, r, st.Size()-int64(len(id)+sha256.Size)); err != nil {
		return false
	}
	_, err = io.ReadFull(r, tail)
	return err == nil && bytes.Equal(tail, sum.Sum(nil))
}

// stateReader reads a file of states that is whole.
type stateReader struct {
	f   *os.File
	r   *bufio.Reader
	raw []byte
}

func openStates(dir string, l int, id string) (*stateReader, error) {
	f, err := os.Open(filepath.Join(dir, statesFile(l)))
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(f, 1<<20)
	if _, err := r.Discard(len(id)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &stateReader{f: f, r: r}, nil
}

// next reads a sequence of n states into x [n, width], and the keys of its rows.
func (s *stateReader) next(n int, x []float32) (span runtime.Span, err error) {
	s.raw = slices.Grow(s.raw[:0], 1<<16)[:1<<16]
	for len(x) > 0 {
		k := min(len(x), len(s.raw)/4)
		if _, err := io.ReadFull(s.r, s.raw[:4*k]); err != nil {
			return span, err
		}
		numeric.DecodeF32(x[:k], s.raw[:4*k])
		x = x[k:]
	}
	span.N = n
	rows, err := s.number(n)
	if err != nil {
		return span, err
	}
	for range rows {
		k, err := s.number(1 << 24)
		if err != nil {
			return span, err
		}
		keys, err := s.keys(k)
		if err != nil {
			return span, err
		}
		span.Keys = append(span.Keys, keys)
	}
	return span, nil
}

// keys reads k keys; a count that the file does not bear out takes no memory.
func (s *stateReader) keys(k int) (keys []int32, err error) {
	for len(keys) < k {
		raw := s.raw[:4*min(k-len(keys), len(s.raw)/4)]
		if _, err := io.ReadFull(s.r, raw); err != nil {
			return nil, err
		}
		for at := 0; at < len(raw); at += 4 {
			keys = append(keys, int32(binary.LittleEndian.Uint32(raw[at:])))
		}
	}
	return keys, nil
}

// number reads a count of at most some.
func (s *stateReader) number(most int) (int, error) {
	var b [4]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint32(b[:])
	if n > uint32(most) {
		return 0, fmt.Errorf("%s: %w: a count of %d", s.f.Name(), ErrStatistics, n)
	}
	return int(n), nil
}

func (s *stateReader) close() { _ = s.f.Close() }
