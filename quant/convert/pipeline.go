package convert

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/internal/bytesum"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// tile is a run of rows of one item, or a piece of a tensor that is copied.
type tile struct {
	item  *quant.Item
	index int // in quant.Plan.Items
	row0  int
	rows  int
	last  bool
	bytes int   // of the source
	at    int64 // place of the first output in the file; -1: comes at its end
	cost  int64
	sum   uint64   // of the source's bytes (package bytesum)
	out   [][]byte // bytes for each output of the item
	stats numeric.Stats
	err   error
	done  bool // computed; guarded by lane.mu

	global float32 // of quant.NVFP4
	zero   int64   // bytes of the source in pages of zeros
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
	stored layout.Buffer
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

// cut returns the number of units of an item and of a tile, and the bytes of a
// unit: rows of weights that are quantised or decoded, elements of what moves
// as it is. Rows of a quantized source have no whole number of bytes; then unit
// is 0.
func (c *converter) cut(it *quant.Item) (total, step int, unit int64) {
	size := int64(it.Source.DType.Bits() / 8)
	switch {
	case it.Action == quant.Make:
		return 1, 1, 0
	case it.Stored != nil:
		return it.Stored.Rows, tileRows(c.plan, it), 0
	case it.Action == quant.Quantize:
		n, k := it.Weight.Dims()
		return n, tileRows(c.plan, it), int64(k) * size
	}
	return int(it.Bytes / max(size, 1)), copyBytes / int(max(size, 1)), size
}

// compute reads a tile and turns it into output bytes.
func (c *converter) compute(ctx context.Context, t *tile, s *scratch) error {
	it := t.item
	if it.HasGlobalScale() {
		g, err := c.global(ctx, it, s)
		if err != nil {
			return err
		}
		t.global = g
	}
	if it.Action == quant.Make {
		t.out = [][]byte{append(c.buffers.get(len(it.Data))[:0], it.Data...)}
		return nil
	}
	if it.Stored != nil {
		return c.computeStored(t, s)
	}
	unit := int64(t.bytes / max(t.rows, 1))
	if it.Action == quant.Copy || it.Action == quant.Alias {
		b := c.buffers.get(t.bytes)
		t.out = [][]byte{b}
		err := c.readTile(t, it.Offset+int64(t.row0)*unit, b)
		if err == nil && layout.NonFinite(b, it.Source.DType) {
			err = t.findNonFinite(b, int64(t.row0)*unit)
		}
		if err == nil {
			err = c.scale(t, b)
		}
		return err
	}
	own := c.early.take(t)
	defer c.early.release(own)
	src, off := own, it.Offset+int64(t.row0)*unit
	if own != nil {
		t.note(off, src)
	} else {
		src = s.bytes(t.bytes)
		if err := c.readTile(t, off, src); err != nil {
			return err
		}
	}
	if err := c.scale(t, src); err != nil {
		return err
	}
	decoder, err := layout.DecoderOf(it.Source.DType)
	if err != nil {
		return err
	}
	if it.Action != quant.Quantize {
		decoder.Decode(s.take(t.bytes/decoder.Size), src)
		return c.keepFloats(t, s.floats)
	}
	_, k := it.Weight.Dims()
	return c.round(t, s, func(spec numeric.Spec) (*numeric.Matrix, numeric.Stats, error) {
		if c.plan.Codes() != nil {
			decoder.Decode(s.take(t.rows*k), src)
			return c.learnt(t, spec, s.floats, &s.num)
		}
		return numeric.QuantizeBytes(spec, src, decoder, t.rows, k, &s.num)
	})
}

// readTile fills p with the bytes of a tile's tensor from off and takes their
// checksum.
func (c *converter) readTile(t *tile, off int64, p []byte) error {
	if err := c.src.ReadAt(t.item.Source, off, p); err != nil {
		return err
	}
	t.note(off, p)
	return nil
}

// note takes the checksum of a tile's bytes and counts those that are zero.
func (t *tile) note(off int64, p []byte) {
	t.sum, t.zero = bytesum.Rows(t.item.Source.Name, off, rowSize(t.item), p), origin.ZeroBytes(p)
}

// rowSize returns the bytes of a row for the checksum of an item's tiles; 0 if
// they are cut between any two elements.
func rowSize(it *quant.Item) int64 {
	if it.Action != quant.Quantize {
		return 0
	}
	_, k := it.Weight.Dims()
	return int64(k) * int64(it.Source.DType.Bits()/8)
}

// computeStored is compute for a weight of a quantized source: decoded to
// float32 and rounded once.
func (c *converter) computeStored(t *tile, s *scratch) error {
	it := t.item
	m, err := c.readStored(t, s)
	if err != nil {
		return err
	}
	if c.asStored(it) {
		return c.round(t, s, func(spec numeric.Spec) (*numeric.Matrix, numeric.Stats, error) {
			return numeric.QuantizeMatrix(spec, m, &s.num)
		})
	}
	w, err := c.widen(t, m, s)
	if err != nil {
		return err
	}
	k := it.Stored.Cols
	if it.Action != quant.Quantize {
		if i := numeric.FirstNonFinite(w); i >= 0 {
			return t.nonFinite(&numeric.NonFiniteError{Row: i / k, Col: i % k, Value: w[i]})
		}
		return c.keepFloats(t, w)
	}
	return c.round(t, s, func(spec numeric.Spec) (*numeric.Matrix, numeric.Stats, error) {
		return c.learnt(t, spec, w, &s.num)
	})
}

// asStored tells whether an item's weights are rounded as they are stored, with
// nothing done to them between.
func (c *converter) asStored(it *quant.Item) bool {
	return it.Action == quant.Quantize && c.plan.Options.Arith == numeric.Best && c.plan.Codes() == nil && c.plan.Scaling(it.Name()) == nil
}

// readStored reads a tile of a quantized source.
func (c *converter) readStored(t *tile, s *scratch) (*numeric.Matrix, error) {
	r := &recorder{TensorReader: c.src, codes: t.item.Source.Name}
	m, err := s.stored.ReadRows(r, *t.item.Stored, t.row0, t.row0+t.rows)
	t.sum, t.zero = r.sum, r.zero
	return m, err
}

// decodeStored reads a tile of a quantized source as float32.
func (c *converter) decodeStored(t *tile, s *scratch) ([]float32, error) {
	m, err := c.readStored(t, s)
	if err != nil {
		return nil, err
	}
	return c.widen(t, m, s)
}

// widen returns a tile of a quantized source as float32. The reference tools
// decode to BF16 first, so that their bytes need that detour.
func (c *converter) widen(t *tile, m *numeric.Matrix, s *scratch) ([]float32, error) {
	w := s.take(t.rows * m.Cols)
	m.Dequant(w, 0, t.rows)
	if err := c.scaleFloats(t, w); err != nil {
		return nil, err
	}
	if c.plan.Options.Arith == numeric.Compat && t.item.Action == quant.Quantize {
		for i, v := range w {
			w[i] = numeric.RoundBF16(v)
		}
	}
	return w, nil
}

// recorder remembers what was read.
type recorder struct {
	layout.TensorReader
	codes string // the tensor whose zeros count
	sum   uint64
	zero  int64
}

func (r *recorder) ReadAt(info safetensors.Info, off int64, p []byte) error {
	err := r.TensorReader.ReadAt(info, off, p)
	r.sum += bytesum.Rows(info.Name, off, info.RowSize(), p)
	if info.Name == r.codes {
		r.zero += origin.ZeroBytes(p)
	}
	return err
}

// bytes returns a buffer of n bytes of a source.
func (s *scratch) bytes(n int) []byte {
	if cap(s.src) < n {
		s.src = make([]byte, n)
	}
	s.src = s.src[:n]
	return s.src
}

// take returns a buffer of n floats.
func (s *scratch) take(n int) []float32 {
	if cap(s.floats) < n {
		s.floats = make([]float32, n)
	}
	s.floats = s.floats[:n]
	return s.floats
}

// keepFloats makes values the bytes of a tile.
func (c *converter) keepFloats(t *tile, w []float32) error {
	if t.item.Weight.DType == safetensors.F32 {
		t.out = [][]byte{numeric.AppendF32(c.buffers.get(4 * len(w))[:0], w)}
	} else {
		t.out = [][]byte{numeric.AppendBF16(c.buffers.get(2 * len(w))[:0], w)}
	}
	return nil
}

func (t *tile) nonFinite(e *numeric.NonFiniteError) error {
	it := t.item
	return &quant.NonFiniteError{File: it.Source.File, Tensor: it.Name(), Row: int64(t.row0 + e.Row), Col: int64(e.Col), Value: e.Value}
}

// findNonFinite names the place of the first NaN or infinity in bytes that are
// copied, which begin at byte off of the item.
func (t *tile) findNonFinite(b []byte, off int64) error {
	it := t.item
	decoder, err := layout.DecoderOf(it.Source.DType)
	if err != nil {
		return err
	}
	v := make([]float32, len(b)/decoder.Size)
	decoder.Decode(v, b)
	i := numeric.FirstNonFinite(v)
	if i < 0 {
		return nil
	}
	at, cols := (it.Offset+off)/int64(decoder.Size)+int64(i), int64(1)
	if n := len(it.Source.Shape); n > 0 {
		cols = max(it.Source.Shape[n-1], 1)
	}
	return &quant.NonFiniteError{File: it.Source.File, Tensor: it.Name(), Row: at / cols, Col: at % cols, Value: v[i]}
}

// round makes a tile's codes and scales.
func (c *converter) round(t *tile, s *scratch, quantize func(numeric.Spec) (*numeric.Matrix, numeric.Stats, error)) error {
	it := t.item
	_, k := it.Weight.Dims()
	spec := c.plan.Layout().Numeric(it.Weight, c.plan.Options.Arith)
	spec.Global = t.global
	first := c.buffers.get(t.rows * k)[:0]
	if spec.Code.Bits() == 8 {
		s.num.Into(first) // the codes are the bytes of the file
	}
	m, stats, err := quantize(spec)
	var nf *numeric.NonFiniteError
	if errors.As(err, &nf) {
		return t.nonFinite(nf)
	} else if err != nil {
		return fmt.Errorf("%s: %w", it.Name(), err)
	}
	t.stats = stats
	t.out = make([][]byte, it.Outputs)
	t.out[0] = first
	w := it.Weight
	if w.Bias, err = c.bias(t); err != nil {
		return err
	}
	t.out, err = c.plan.Layout().AppendTile(w, t.row0, m, t.out)
	return err
}

// bias reads the biases of a tile's rows, folded, where the weight's tensors hold
// them; nil where the module has none.
func (c *converter) bias(t *tile) ([]float32, error) {
	info, ok := c.biasOf(t.item)
	if !ok {
		return nil, nil
	}
	decoder, err := layout.DecoderOf(info.DType)
	if err != nil {
		return nil, err
	}
	raw, out := make([]byte, t.rows*decoder.Size), make([]float32, t.rows)
	if err := c.src.ReadAt(info, int64(t.row0*decoder.Size), raw); err != nil {
		return nil, err
	}
	if s := c.plan.Scaling(info.Name); s != nil {
		if err := s.Apply(raw, info.DType, int64(t.row0), info.Name); err != nil {
			return nil, &quant.Error{Kind: quant.ErrSource, Reason: "the source cannot be folded exactly", Advice: "convert without folds", Err: err}
		}
	}
	decoder.Decode(out, raw)
	if i := numeric.FirstNonFinite(out); i >= 0 {
		return nil, &quant.NonFiniteError{File: info.File, Tensor: info.Name, Row: int64(t.row0 + i), Value: out[i]}
	}
	return out, nil
}

// biasOf is the tensor of the bias that an item's tensors hold.
func (c *converter) biasOf(it *quant.Item) (safetensors.Info, bool) {
	if it.Action != quant.Quantize || !it.Weight.TakesBias() {
		return safetensors.Info{}, false
	}
	info, ok := c.src.Info(it.Weight.Tensor.Module + ".bias")
	rows, _ := it.Weight.Dims()
	return info, ok && info.Elements() == int64(rows)
}
