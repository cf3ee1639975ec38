package calib

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
		var err error
		if err = x.fs.MkdirAll(filepath.Dir(x.file)); err != nil {
			return nil, err
		}
		if x.f, err = fsx.CreateTemp(x.fs, x.file); err != nil {
			return nil, err
		}
		if x.from, err = os.Open(x.f.Name()); err != nil {
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

// close empties the shelf.
func (x *shelf) close() error {
	*x.room, x.taken, x.size = *x.room+x.taken, 0, 0
	if x.f == nil {
		return nil
	}
	f := x.f
	if x.from != nil {
		_ = x.from.Close()
	}
	x.f, x.from = nil, nil
	return fsx.Discard(x.fs, f)
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
