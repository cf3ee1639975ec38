package calib

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/numeric"
)

// spillRows is how many rows of inputs are in memory at a time.
const spillRows = 512

// spill holds inputs of a projection [rows, width] float32: in memory where there
// is room, else in a file.
type spill struct {
	s     *solver
	width int
	rows  int

	mem   []float32
	taken int64 // of the solver's room

	f    fsx.File
	w    *bufio.Writer
	from *os.File
	raw  []byte
}

// spill returns an empty one that will hold as many rows as there are tokens.
func (s *solver) spill(width int) (x *spill, err error) {
	x = &spill{s: s, width: width}
	if size := int64(s.rows) * int64(width) * 4; size <= s.room {
		s.room, x.taken = s.room-size, size
		x.mem = make([]float32, 0, s.rows*width)
		return x, nil
	}
	s.spills++
	x.f, err = fsx.CreateTemp(s.o.FS, filepath.Join(s.o.Scratch, fmt.Sprintf("inputs-%d.bin", s.spills)))
	if err == nil {
		x.w = bufio.NewWriterSize(x.f, 256<<10)
	}
	return x, err
}

// put appends rows.
func (x *spill) put(rows []float32) error {
	x.rows += len(rows) / x.width
	if x.f == nil {
		x.mem = append(x.mem, rows...)
		return nil
	}
	const run = 1 << 14
	for at := 0; at < len(rows); at += run {
		x.raw = numeric.AppendF32(x.raw[:0], rows[at:min(at+run, len(rows))])
		if _, err := x.w.Write(x.raw); err != nil {
			return err
		}
	}
	return nil
}

// close gives back what the inputs take.
func (x *spill) close() error {
	if x == nil {
		return nil
	}
	x.s.room, x.taken, x.mem = x.s.room+x.taken, 0, nil
	if x.f == nil {
		return nil
	}
	if x.from != nil {
		_ = x.from.Close()
	}
	f := x.f
	x.f, x.from = nil, nil
	return fsx.Discard(x.s.o.FS, f)
}

// at reads row i to dst.
func (x *spill) at(i int, dst []float32) error {
	if x.f == nil {
		copy(dst, x.mem[i*x.width:][:x.width])
		return nil
	}
	if x.from == nil {
		if err := x.w.Flush(); err != nil {
			return err
		}
		var err error
		if x.from, err = os.Open(x.f.Name()); err != nil {
			return err
		}
	}
	n := 4 * x.width
	x.raw = slices.Grow(x.raw[:0], n)[:n]
	if _, err := x.from.ReadAt(x.raw, int64(i)*int64(n)); err != nil {
		return err
	}
	numeric.DecodeF32(dst, x.raw)
	return nil
}

// pairs hands out some rows of the served and the float inputs of the same
// tokens, some at a time.
type pairs struct {
	served, float *spill
	tokens        []int // nil: all
}

func (p *pairs) count() int {
	if p.tokens == nil {
		return p.served.rows
	}
	return len(p.tokens)
}

// each calls do with up to spillRows rows at a time, which it may change, until
// the run is interrupted.
func (p *pairs) each(do func(served, float []float32) error) error {
	total, width := p.count(), p.served.width
	n := min(total, spillRows)
	x, y := make([]float32, n*width), make([]float32, n*width)
	for at := 0; at < total; at += n {
		if err := p.served.s.interrupted(); err != nil {
			return err
		}
		k := min(n, total-at)
		for i := range k {
			row := at + i
			if p.tokens != nil {
				row = p.tokens[row]
			}
			if err := errors.Join(p.served.at(row, x[i*width:][:width]), p.float.at(row, y[i*width:][:width])); err != nil {
				return err
			}
		}
		if err := do(x[:k*width], y[:k*width]); err != nil {
			return err
		}
	}
	return nil
}
