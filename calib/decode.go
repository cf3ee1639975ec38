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
	rows, cols := it.Weight.Dims()
	if it.Stored != nil {
		if w, err = readWeight(f.src, it); err == nil {
			err = f.FoldFloats(it.Name(), 0, w)
		}
	} else {
		raw := make([]byte, it.Bytes)
		if err = f.ReadAt(it.Source, it.Offset, raw); err == nil {
			w = make([]float32, rows*cols)
			err = layout.DecodeFloats(w, raw, it.Source.DType)
		}
	}
	if err != nil {
		return nil, err
	}
	if i := numeric.FirstNonFinite(w); i >= 0 {
		return nil, &quant.NonFiniteError{File: it.Source.File, Tensor: it.Name(), Row: int64(i / cols), Col: int64(i % cols), Value: w[i]}
	}
	return w, nil
}
