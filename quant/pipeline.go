package quant

import (
	"errors"
	"fmt"
	"sync"

	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/crc32c"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// tile is a run of rows of one item, or a piece of a tensor that is copied.
type tile struct {
	item  *Item
	index int // in Plan.Items
	row0  int
	rows  int
	last  bool
	bytes int   // of the source
	at    int64 // place of the first output in the file; -1: comes at its end
	cost  int64
	crc   uint32   // of the source's bytes
	out   [][]byte // bytes for each output of the item
	stats numeric.Stats
	err   error
	done  bool  // computed; guarded by lane.mu
	zero  int64 // bytes of the source in pages of zeros
}

// readAhead is how many tiles wait for a computing goroutine while the system
// reads them in.
const readAhead = 16

// pool runs the computing goroutines of a conversion.
type pool struct {
	work chan func(*scratch)
	wg   sync.WaitGroup
}

// scratch is what one computing goroutine reuses from tile to tile.
type scratch struct {
	src    []byte
	floats []float32
	num    numeric.Scratch
}

func newPool(workers int) *pool {
	p := &pool{work: make(chan func(*scratch), readAhead)}
	for range workers {
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			var s scratch
			for f := range p.work {
				f(&s)
			}
		}()
	}
	return p
}

func (p *pool) close() { close(p.work); p.wg.Wait() }

// cut returns the number of units in a tile and the bytes of a unit: rows for
// weights that are quantised, elements for what moves as it is.
func (c *converter) cut(it *Item) (step int, unit int64) {
	size := int64(it.Source.DType.Bits() / 8)
	if it.Action == Quantize {
		_, k := it.Weight.Dims()
		return c.plan.tileRows(it.Weight), int64(k) * size
	}
	return copyBytes / int(max(size, 1)), size
}

// compute reads a tile and turns it into output bytes.
func (c *converter) compute(t *tile, s *scratch) error {
	it := t.item
	unit := int64(t.bytes / max(t.rows, 1))
	if it.Action == Copy || it.Action == Alias {
		b := c.buffers.get(t.bytes)
		t.out = [][]byte{b}
		err := c.src.ReadAt(it.Source, it.Offset+int64(t.row0)*unit, b)
		t.crc, t.zero = crc32c.Sum(b), origin.ZeroBytes(b)
		if err == nil {
			err = c.plan.scale(t, b)
		}
		return err
	}
	if cap(s.src) < t.bytes {
		s.src = make([]byte, t.bytes)
	}
	src := s.src[:t.bytes]
	if err := c.src.ReadAt(it.Source, it.Offset+int64(t.row0)*unit, src); err != nil {
		return err
	}
	t.crc, t.zero = crc32c.Sum(src), origin.ZeroBytes(src)
	if err := c.plan.scale(t, src); err != nil {
		return err
	}
	decoder, err := layout.DecoderOf(it.Source.DType)
	if err != nil {
		return err
	}
	if it.Action == Widen {
		n := t.bytes / decoder.Size
		if cap(s.floats) < n {
			s.floats = make([]float32, n)
		}
		decoder.Decode(s.floats[:n], src)
		t.out = [][]byte{numeric.AppendF32(c.buffers.get(4 * n)[:0], s.floats[:n])}
		return nil
	}
	_, k := it.Weight.Dims()
	spec := c.plan.lay.Numeric(it.Weight, c.plan.arith())
	first := c.buffers.get(t.rows * k)[:0]
	if spec.Code != numeric.Int4 {
		s.num.Into(first) // the codes are the bytes of the file
	}
	m, stats, err := numeric.QuantizeBytes(spec, src, decoder, t.rows, k, &s.num)
	var nf *numeric.NonFiniteError
	if errors.As(err, &nf) {
		return &NonFiniteError{File: it.Source.File, Tensor: it.Name(), Row: int64(t.row0 + nf.Row), Col: int64(nf.Col), Value: nf.Value}
	} else if err != nil {
		return fmt.Errorf("%s: %w", it.Name(), err)
	}
	t.stats = stats
	t.out = make([][]byte, len(it.Outputs))
	t.out[0] = first
	t.out, err = c.plan.lay.AppendTile(it.Weight, t.row0, m, t.out)
	return err
}
