package rotation

import (
	"slices"
	"sync"
	"unsafe"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// A rotation from the left mixes all rows of a weight, so that the weight is
// held as a whole. Where it is one Hadamard matrix over all rows it takes two
// passes: of the rows a block apart when the weight is read, strip of columns by
// strip, and of the rows of a block, which lie side by side, when they are asked
// for. Every value is then written once and read once. The gains and rotations of
// columns come after it: the two commute.

const (
	// BlockRows is how many rows the second pass mixes: who reads whole blocks of
	// them has nothing computed twice.
	BlockRows = 32
	// strip is how many columns the first pass mixes at a time: the rows that it
	// needs stay in a core's second cache.
	strip = 128
	// chunk is how many columns the second pass mixes at a time.
	chunk = 256
	// narrow is how many columns are mixed at a time where one pass does it.
	narrow = 32
)

// whole is a weight that was rotated from the left, kept for the next rows.
type whole struct {
	t    *tensor
	once sync.Once
	x    []float32 // [rows, cols]
	half bool      // rows of a block are still to be mixed
	err  error

	// Guarded by View.mu.
	users  int
	served int // rows that were asked for, over all times
	room   int // values that x has or will have room for
}

// whole returns the place of a weight. Who takes it leaves it. A new one takes the
// memory of one of which all rows were asked for, so that there are never many
// pages that the system has to clear; those that do not fit beside it are
// forgotten, the oldest first.
func (v *View) whole(t *tensor) *whole {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.kept {
		if w.t == t {
			w.users++
			return w
		}
	}
	need := int(t.entry.Elements())
	w := &whole{t: t, users: 1, room: need}
	if i := v.spent(need); i >= 0 {
		w.x, w.room = v.kept[i].x, v.kept[i].room
		v.kept = slices.Delete(v.kept, i, i+1)
	}
	total := 4 * int64(w.room)
	for i := len(v.kept) - 1; i >= 0; i-- {
		if total += 4 * int64(v.kept[i].room); total > v.o.Cache {
			v.kept = slices.Delete(v.kept, 0, i+1)
			break
		}
	}
	v.kept = append(v.kept, w)
	return w
}

// spent returns the least of the kept weights with room for need values that
// nobody looks at and probably nobody will, -1 if there is none.
func (v *View) spent(need int) (best int) {
	best = -1
	for i, w := range v.kept {
		rows, _ := w.t.dims()
		if w.users > 0 || w.served < rows || w.room < need {
			continue
		}
		if best < 0 || w.room < v.kept[best].room {
			best = i
		}
	}
	return best
}

// leave says that rows of a weight were taken.
func (v *View) leave(w *whole, rows int) {
	v.mu.Lock()
	w.users--
	w.served += rows
	v.mu.Unlock()
}

// fromLeft reads a weight and mixes its rows, or those that are a block apart.
func (v *View) fromLeft(w *whole) error {
	t := w.t
	rows, cols := t.dims()
	w.x = grown(&w.x, rows*cols)
	h := twoPasses(t.change.left, rows)
	var late *numeric.Decoder // for what the first pass decodes
	if d, err := layout.DecoderOf(t.entry.Source.DType); err == nil && h != nil && !t.matrix && d.Size < 4 {
		late = &d
	}
	step := max(1, (1<<20)/cols)
	errs := make([]error, (rows+step-1)/step)
	parallel(len(errs), func(i int) {
		lo, hi := i*step, min((i+1)*step, rows)
		buf := v.buffers.Get().(*buffers)
		if late != nil {
			errs[i] = v.stored(t, lo, hi, w.x[lo*cols:hi*cols], late.Size, buf)
		} else {
			errs[i] = v.source(t, lo, hi, w.x[lo*cols:hi*cols], buf)
		}
		v.buffers.Put(buf)
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if h != nil {
		w.half = true
		parallel(BlockRows, func(i int) { h.apart(w.x, i, cols, late) })
		return nil
	}
	for _, b := range t.change.left {
		rotateRows(b, w.x, cols)
	}
	return nil
}

// stored reads rows into the second half, or the last quarter, of where their
// values go.
func (v *View) stored(t *tensor, lo, hi int, x []float32, size int, buf *buffers) error {
	raw := grown(&buf.raw, len(x)*size)
	if err := v.folded.ReadAt(t.entry.Source, t.entry.Offset+int64(lo)*int64(len(x)/(hi-lo)*size), raw); err != nil {
		return err
	}
	cols := len(x) / (hi - lo)
	for r := range hi - lo {
		copy(storedIn(x[r*cols:][:cols], size), raw[r*cols*size:])
	}
	return nil
}

// storedIn is the part of a row in which its bytes wait.
func storedIn(row []float32, size int) []byte {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&row[0])), 4*len(row))
	return b[(4-size)*len(row):]
}

// twoPasses returns the one rotation over all rows, nil where there is none of
// that kind.
func twoPasses(left []block, rows int) *Hadamard {
	if len(left) == 1 && left[0].at == 0 {
		if h, ok := left[0].m.(*Hadamard); ok && h.n == rows && h.m%BlockRows == 0 {
			return h
		}
	}
	return nil
}

// apart is the first pass for the i-th row of all blocks. The bytes that late
// decodes lie behind the values that are written before they are read.
func (h *Hadamard) apart(x []float32, i, cols int, late *numeric.Decoder) {
	n, q := h.n/BlockRows, h.m/BlockRows
	buf := make([]float32, n*strip)
	for c := 0; c < cols; c += strip {
		w := min(strip, cols-c)
		for j := range n {
			r, to := i+j*BlockRows, buf[j*w:][:w]
			if row := x[r*cols:][:cols]; late != nil {
				late.Decode(to, storedIn(row, late.Size)[c*late.Size:][:w*late.Size])
			} else {
				copy(to, row[c:])
			}
			scale(to, h.signs[r])
		}
		for at := 0; at < n; at += q {
			stages(buf[at*w:][:q*w], w)
		}
		h.mix(buf[:n*w], q*w)
		for j := range n {
			copy(x[(i+j*BlockRows)*cols+c:][:w], buf[j*w:])
		}
	}
}

// rows returns rows lo … hi−1, in buf: with the second pass where that is due.
func (w *whole) rows(lo, hi int, buf *buffers) []float32 {
	rows, cols := w.t.dims()
	if !w.half {
		x := buf.floats((hi - lo) * cols)
		copy(x, w.x[lo*cols:])
		return x
	}
	first := lo / BlockRows * BlockRows
	last := min((hi+BlockRows-1)/BlockRows*BlockRows, rows)
	x := buf.floats((last - first) * cols)
	for at := first; at < last; at += BlockRows {
		together(x[(at-first)*cols:], w.x[at*cols:], cols)
	}
	return x[(lo-first)*cols:][:(hi-lo)*cols]
}

// together is the second pass for a block: five stages, three and two.
func together(to, x []float32, cols int) {
	for c := 0; c < cols; c += chunk {
		w := min(chunk, cols-c)
		for r := 0; r < BlockRows; r += 8 {
			butterfly8(to[r*cols+c:], x[r*cols+c:], cols, cols, w)
		}
		for r := range 8 {
			butterfly4(to[r*cols+c:], to[r*cols+c:], 8*cols, 8*cols, w)
		}
	}
}

// rotateRows rotates some rows of a weight, strip of columns by strip.
func rotateRows(b block, x []float32, cols int) {
	n := b.m.Size()
	parallel((cols+narrow-1)/narrow, func(i int) {
		c, w := i*narrow, min(narrow, cols-i*narrow)
		buf := make([]float32, n*w)
		for r := range n {
			copy(buf[r*w:][:w], x[(b.at+r)*cols+c:])
		}
		b.m.Apply(buf, w)
		for r := range n {
			copy(x[(b.at+r)*cols+c:][:w], buf[r*w:])
		}
	})
}
