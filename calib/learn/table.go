package learn

import (
	"encoding/binary"
	"io"
	"math"
	"sync"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// Files makes files for matrices that memory has no room for.
type Files interface {
	// Create makes a file of a number of bytes.
	Create(bytes int64) (File, error)
}

// File is one of Files. Close removes it.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// Room says where moments, and what is made of them, are: in files, of which parts
// are in memory at a time.
type Room struct {
	Files Files
	Bytes int64 // of memory for those parts, at least LeastBytes
	// Interrupted is asked while files are read; its error ends the work. May be nil.
	Interrupted func() error
}

// LeastBytes is the least memory that moments of n columns take, and what is made of
// them, while they are in files.
func LeastBytes(n int) int64 { return 8<<20 + int64(n)*16<<10 }

// FileBytes is what the files of moments of n columns take, and of what is made of
// them.
func FileBytes(n int) int64 { return 28 * int64(n+tileSide) * int64(n+tileSide) }

// disk is a Room with its first error, which stays: what is read after it is zero.
type disk struct {
	Room
	mu  sync.Mutex
	err error
}

func (d *disk) fail(err error) {
	if err == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
}

// failed returns the first error, also that of an interruption; nil of no disk.
func (d *disk) failed() error {
	if d == nil {
		return nil
	}
	if d.Interrupted != nil {
		d.fail(d.Interrupted())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// rows is how many rows of some bytes each fit into a part of the memory, a multiple
// of align.
func (d *disk) rows(each int64, align, most int) int {
	n := int(min(d.Bytes/max(each, 1), int64(most))) / align * align
	return max(n, align)
}

// float is what matrices are of.
type float interface{ float32 | float64 }

// tileSide is the width and height of the squares that a table's file holds one after
// the other.
const tileSide = copyCols

// table is a matrix [n, n], in memory or in a file.
type table[T float] struct {
	n    int
	mem  []T
	disk *disk // nil: in memory
	f    File
}

// newTable makes one of zeros.
func newTable[T float](n int, d *disk) *table[T] {
	t := &table[T]{n: n, disk: d}
	if d == nil {
		t.mem = make([]T, n*n)
		return t
	}
	if d.failed() == nil {
		var err error
		side := int64(t.tiles())
		t.f, err = d.Files.Create(side * side * tileSide * tileSide * t.size())
		d.fail(err)
	}
	return t
}

func (t *table[T]) tiles() int { return (t.n + tileSide - 1) / tileSide }

func (t *table[T]) size() int64 {
	var x T
	if _, ok := any(x).(float64); ok {
		return 8
	}
	return 4
}

// close gives back what it takes.
func (t *table[T]) close() {
	if t == nil {
		return
	}
	t.mem = nil
	if t.f != nil {
		t.disk.fail(t.f.Close())
		t.f = nil
	}
}

var tileBytes = sync.Pool{New: func() any { return new([tileSide * tileSide * 8]byte) }}

// cut calls fn for the part of a rectangle in each tile: rows r0 … r1 and columns
// c0 … c1, which lie at off of the file from the tile's own first column on.
func (t *table[T]) cut(row, rows, col, cols int, fn func(r0, r1, c0, c1, tile int, off int64) error) {
	if t.f == nil {
		return
	}
	for r0 := row; r0 < row+rows; {
		r1 := min(row+rows, (r0/tileSide+1)*tileSide)
		for c0 := col; c0 < col+cols; {
			c1 := min(col+cols, (c0/tileSide+1)*tileSide)
			off := (int64(r0/tileSide*t.tiles()+c0/tileSide)*tileSide + int64(r0%tileSide)) * tileSide * t.size()
			if err := fn(r0, r1, c0, c1, c0/tileSide*tileSide, off); err != nil {
				t.disk.fail(err)
				return
			}
			c0 = c1
		}
		r0 = r1
	}
}

// load reads a rectangle to dst, whose rows lie ld apart.
func (t *table[T]) load(dst []T, ld, row, rows, col, cols int) {
	if t.disk == nil {
		for r := range rows {
			copy(dst[r*ld:][:cols], t.mem[(row+r)*t.n+col:])
		}
		return
	}
	if t.disk.failed() != nil {
		for r := range rows {
			clear(dst[r*ld:][:cols])
		}
		return
	}
	buf := tileBytes.Get().(*[tileSide * tileSide * 8]byte)
	defer tileBytes.Put(buf)
	line := int(tileSide * t.size())
	t.cut(row, rows, col, cols, func(r0, r1, c0, c1, tile int, off int64) error {
		raw := buf[:(r1-r0)*line]
		if _, err := t.f.ReadAt(raw, off); err != nil {
			return err
		}
		for r := r0; r < r1; r++ {
			decode(dst[(r-row)*ld+c0-col:][:c1-c0], raw[(r-r0)*line+(c0-tile)*int(t.size()):])
		}
		return nil
	})
}

// store writes a rectangle from src, whose rows lie ld apart.
func (t *table[T]) store(src []T, ld, row, rows, col, cols int) {
	if t.disk == nil {
		for r := range rows {
			copy(t.mem[(row+r)*t.n+col:][:cols], src[r*ld:])
		}
		return
	}
	if t.disk.failed() != nil {
		return
	}
	buf := tileBytes.Get().(*[tileSide * tileSide * 8]byte)
	defer tileBytes.Put(buf)
	line := int(tileSide * t.size())
	t.cut(row, rows, col, cols, func(r0, r1, c0, c1, tile int, off int64) error {
		whole := c0 == tile && c1 == min(t.n, tile+tileSide)
		for r := r0; r < r1; r++ {
			raw := buf[(r-r0)*line:][:line]
			n := encodeAll(raw, src[(r-row)*ld+c0-col:][:c1-c0])
			if whole {
				clear(raw[n:])
			} else if _, err := t.f.WriteAt(raw[:n], off+int64(r-r0)*int64(line)+int64(c0-tile)*t.size()); err != nil {
				return err
			}
		}
		if !whole {
			return nil
		}
		_, err := t.f.WriteAt(buf[:(r1-r0)*line], off)
		return err
	})
}

// view returns rows: in memory the table's own, else a copy in buf.
func (t *table[T]) view(row, rows int, buf []T) []T {
	if t.disk == nil {
		return t.mem[row*t.n : (row+rows)*t.n]
	}
	t.load(buf, t.n, row, rows, 0, t.n)
	return buf[:rows*t.n]
}

// keep writes rows back that view returned.
func (t *table[T]) keep(row, rows int, x []T) {
	if t.disk != nil {
		t.store(x, t.n, row, rows, 0, t.n)
	}
}

func decode[T float](dst []T, raw []byte) {
	switch d := any(dst).(type) {
	case []float32:
		numeric.DecodeF32(d, raw[:4*len(d)])
	case []float64:
		for i := range d {
			d[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
		}
	}
}

func encodeAll[T float](raw []byte, src []T) int {
	switch s := any(src).(type) {
	case []float32:
		return len(numeric.AppendF32(raw[:0], s))
	case []float64:
		for i, v := range s {
			binary.LittleEndian.PutUint64(raw[8*i:], math.Float64bits(v))
		}
		return 8 * len(s)
	}
	return 0
}

// workers are as many of some as memory has room for, each of which takes some bytes.
func (d *disk) workers(w *kernel.Workers, each int64) *kernel.Workers {
	if w == nil {
		return &kernel.Workers{N: 1}
	}
	return &kernel.Workers{N: int(max(1, min(int64(w.N), d.Bytes/max(each, 1))))}
}
