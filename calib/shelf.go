package calib

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/numeric"
)

// shelf keeps the codes of a layer while it is learnt or measured: in memory where
// there is room, else in a file. Codes of all experts may take more than MaxMemory.
type shelf struct {
	fs    fsx.FS
	file  string // its path
	room  *int64 // bytes of memory
	taken int64  // of them
	// shared says that other processes have shelves in the same folder: a lock
	// tells a file that is used from one that a killed run has left.
	shared bool
	unlock func() error

	f    fsx.File
	from *os.File
	size int64
}

// kept are codes on a shelf.
type kept struct {
	m      numeric.Matrix // without codes and scales if they are in the file
	file   *shelf         // nil: in memory
	at     int64
	codes  int // bytes
	scales int // float32
	local  int // scales of a byte each
}

// put puts codes on the shelf.
func (x *shelf) put(m *numeric.Matrix) (*kept, error) {
	if !m.Plain() {
		return nil, errors.New("codes with zero points or an order of columns are not learnt")
	}
	k := &kept{m: *m, codes: len(m.Codes), scales: len(m.Scales), local: len(m.ScaleCodes)}
	if size := int64(k.codes) + 8*int64(k.scales) + int64(k.local); size <= *x.room { // with the scales as engines use them
		*x.room, x.taken = *x.room-size, x.taken+size
		return k, nil
	}
	if x.f == nil {
		if err := x.open(); err != nil {
			return nil, err
		}
	}
	k.file, k.at = x, x.size
	for _, b := range [][]byte{m.Codes, m.ScaleCodes, numeric.AppendF32(nil, m.Scales)} {
		n, err := x.f.Write(b)
		if x.size += int64(n); err != nil {
			return nil, err
		}
	}
	k.m.Codes, k.m.Scales, k.m.ScaleCodes = nil, nil, nil
	return k, nil
}

// open makes the file.
func (x *shelf) open() (err error) {
	if err := x.fs.MkdirAll(filepath.Dir(x.file)); err != nil {
		return err
	}
	if x.shared {
		if x.unlock, err = fsx.LockOn(x.fs, x.file+lockSuffix); err != nil {
			return err
		}
	}
	if x.f, err = fsx.CreateTemp(x.fs, x.file); err != nil {
		return err
	}
	x.from, err = os.Open(x.f.Name())
	return err
}

// close empties the shelf.
func (x *shelf) close() (err error) {
	*x.room, x.taken, x.size = *x.room+x.taken, 0, 0
	if x.f != nil {
		f := x.f
		if x.from != nil {
			_ = x.from.Close()
		}
		x.f, x.from = nil, nil
		err = fsx.Discard(x.fs, f)
	}
	if x.unlock != nil {
		err = errors.Join(err, x.unlock())
		x.unlock = nil
	}
	return err
}

// lockSuffix is that of the lock of a shelf's file.
const lockSuffix = ".lock"

// sweepShelves removes files of shared shelves whose names have a prefix, which runs
// that were killed have left in a folder; those that are used stay.
func sweepShelves(fsys fsx.FS, dir, prefix string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil //nolint:nilerr // there is nothing
	}
	names := map[string]bool{}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), lockSuffix)
		if fsx.IsTemp(name) {
			name = fsx.FinalName(name)
		} else if name == e.Name() {
			continue
		}
		if !e.IsDir() && strings.HasPrefix(name, prefix) {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		path := filepath.Join(dir, name)
		unlock, err := fsx.LockOn(fsys, path+lockSuffix)
		if errors.Is(err, fsx.ErrLocked) {
			continue
		}
		if err == nil {
			if err = fsys.Remove(fsx.TempName(path)); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			err = errors.Join(err, unlock())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// matrix returns the codes.
func (k *kept) matrix() (*numeric.Matrix, error) {
	m := k.m
	if k.file == nil {
		return &m, nil
	}
	raw := make([]byte, k.codes+k.local+4*k.scales)
	if _, err := k.file.from.ReadAt(raw, k.at); err != nil {
		return nil, fmt.Errorf("%s: %w", k.file.f.Name(), err)
	}
	m.Codes = raw[:k.codes:k.codes]
	if k.local > 0 {
		m.ScaleCodes = raw[k.codes:][:k.local:k.local]
	}
	m.Scales = make([]float32, k.scales)
	numeric.DecodeF32(m.Scales, raw[k.codes+k.local:])
	return &m, nil
}
