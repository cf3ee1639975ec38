package calib

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// floats is a checkpoint under folds as the float model that codes are learnt
// from. Weights that the checkpoint has quantized are decoded tile by tile: what was
// rounded when they were stored stays lost; inputs are not rounded as engines would.
type floats struct {
	*fold.Reader
	src     *safetensors.Checkpoint
	streams []*runtime.Streaming
}

func newFloats(cfg *glm.Config, src *safetensors.Checkpoint, set *fold.Set) (*floats, error) {
	if set == nil {
		set = fold.NewSet()
	}
	r, err := fold.NewReader(cfg, src, set)
	return &floats{Reader: r, src: src}, err
}

// Dir is the checkpoint's folder.
func (f *floats) Dir() string { return f.src.Dir() }

// ReadAt reads floating-point tensors folded, and codes as they are stored.
func (f *floats) ReadAt(t safetensors.Info, off int64, p []byte) error {
	switch t.DType {
	case safetensors.BF16, safetensors.F16, safetensors.F32:
		return f.Reader.ReadAt(t, off, p)
	}
	return f.src.ReadAt(t, off, p)
}

// stop ends all reading of what provider has returned.
func (f *floats) stop() {
	for _, p := range f.streams {
		p.Stop()
	}
}

// provider streams the float model.
func (f *floats) provider(cfg *glm.Config) (*runtime.Streaming, error) {
	p, err := runtime.NewStreaming(cfg, f, 0)
	if err == nil {
		p.Decode(f.FoldFloats)
		f.streams = append(f.streams, p)
	}
	return p, err
}

// weight reads a weight [rows, cols].
func (f *floats) weight(it *quant.Item) (w []float32, err error) {
	rows, _ := it.Weight.Dims()
	return f.rows(it, 0, rows)
}

// rows reads rows lo … hi of a weight.
func (f *floats) rows(it *quant.Item, lo, hi int) (w []float32, err error) {
	_, cols := it.Weight.Dims()
	switch {
	case it.Stored != nil:
		w, err = decoded(f.src, it, lo, hi)
	default:
		w, err = widened(f.ReadAt, it, lo, hi)
	}
	if err == nil && it.Stored != nil {
		err = f.FoldFloats(it.Name(), int64(lo)*int64(cols), w)
	}
	if err != nil {
		return nil, err
	}
	if i := numeric.FirstNonFinite(w); i >= 0 {
		return nil, &quant.NonFiniteError{File: it.Source.File, Tensor: it.Name(), Row: int64(lo + i/cols), Col: int64(i % cols), Value: w[i]}
	}
	return w, nil
}

// widened reads rows lo … hi of a weight that is stored as numbers, by readAt.
func widened(readAt func(t safetensors.Info, off int64, p []byte) error, it *quant.Item, lo, hi int) ([]float32, error) {
	rows, cols := it.Weight.Dims()
	line := it.Bytes / int64(rows)
	raw := make([]byte, line*int64(hi-lo))
	if err := readAt(it.Source, it.Offset+line*int64(lo), raw); err != nil {
		return nil, err
	}
	w := make([]float32, (hi-lo)*cols)
	return w, layout.DecodeFloats(w, raw, it.Source.DType)
}

// decoded reads rows lo … hi of a weight that the checkpoint has quantized; it may
// only be read from some rows on.
func decoded(src *safetensors.Checkpoint, it *quant.Item, lo, hi int) ([]float32, error) {
	var buf layout.Buffer
	align := it.Stored.RowAlign()
	from := lo / align * align
	m, err := buf.ReadRows(src, *it.Stored, from, min((hi+align-1)/align*align, it.Stored.Rows))
	if err != nil {
		return nil, err
	}
	w := make([]float32, (hi-lo)*m.Cols)
	m.Dequant(w, lo-from, hi-from)
	return w, nil
}
