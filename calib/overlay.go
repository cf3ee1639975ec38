package calib

import (
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
)

// overlay is a provider with some weights replaced by codes: the model as far as
// it is quantised. What it holds has nothing to release.
type overlay struct {
	runtime.Provider
	weights map[string]*runtime.Weight
	stored  map[string]func() (*runtime.Weight, error) // weights that are made anew each time
}

func newOverlay(p runtime.Provider) *overlay {
	return &overlay{p, map[string]*runtime.Weight{}, map[string]func() (*runtime.Weight, error){}}
}

// put replaces a weight.
func (o *overlay) put(as *layout.Weight, m *numeric.Matrix) error {
	w, err := o.served(as, m)
	if err == nil {
		o.weights[as.Tensor.Name] = w
	}
	return err
}

// putKept replaces a weight by codes on a shelf, which are read when they are asked
// for.
func (o *overlay) putKept(as *layout.Weight, k *kept) error {
	if k.file == nil {
		return o.put(as, &k.m)
	}
	o.stored[as.Tensor.Name] = func() (*runtime.Weight, error) {
		m, err := k.matrix()
		if err != nil {
			return nil, err
		}
		return o.served(as, m)
	}
	return nil
}

// weight returns what a weight was replaced by; nil if it was not.
func (o *overlay) weight(name string) (*runtime.Weight, error) {
	if made := o.stored[name]; made != nil {
		return made()
	}
	return o.weights[name], nil
}

// served are codes as engines use them.
func (o *overlay) served(as *layout.Weight, m *numeric.Matrix) (*runtime.Weight, error) {
	w, act := *m, as.Act
	if as.Quant.Used == format.BF16 {
		w.Scales = make([]float32, len(m.Scales))
		for i, v := range m.Scales {
			w.Scales[i] = numeric.RoundBF16(v)
		}
	}
	if m.Code == numeric.Int4 && act == format.Float8Token {
		w.Scales = make([]float32, 0, len(m.Scales))
		n := m.ScaleCols()
		for r := range m.Rows {
			w.Scales = append(w.Scales, numeric.VLLMGroupScales(m.Scales[r*n:][:n])...)
		}
	}
	put := &runtime.Weight{Rows: m.Rows, Cols: m.Cols, Quant: &w, Act: act}
	if act == format.NVFP4Local {
		put.ActScale = localInput(as, nil)
	}
	if act == layout.AscendStatic {
		bias, err := o.bias(as)
		if err != nil {
			return nil, err
		}
		put.SetStatic(as.Input.Rows(m, bias))
	}
	return put, nil
}

// bias is that of a weight's module, which its static product holds; nil if it has
// none.
func (o *overlay) bias(as *layout.Weight) ([]float32, error) {
	t := *as.Tensor
	t.Name, t.Param, t.Shape = t.Module+".bias", "bias", t.Shape[:1]
	if !o.Has(&t) {
		return nil, nil
	}
	return o.Vector(&t)
}

// drop forgets what was put.
func (o *overlay) drop() {
	clear(o.weights)
	clear(o.stored)
}

// Tile implements runtime.Provider.
func (o *overlay) Tile(t *glm.Tensor, lo int) (*runtime.Weight, error) {
	if lo == 0 {
		if w, err := o.weight(t.Name); w != nil || err != nil {
			return w, err
		}
	}
	return o.Provider.Tile(t, lo)
}
