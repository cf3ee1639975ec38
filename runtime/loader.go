package runtime

import (
	"fmt"
	"sync"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
	"github.com/glmconv/glmconv/safetensors"
)

// Source is the part of a checkpoint that the runtime reads;
// *safetensors.Checkpoint is one. It must be safe for concurrent use.
type Source interface {
	layout.TensorReader
	Tensors() []safetensors.Info
}

// loader turns stored tensors into weights.
type loader struct {
	cfg     *glm.Config
	src     Source
	scheme  *scheme
	entries map[string]*glm.Entry
	missing []glm.Tensor
	buffers *buffers // of tiles that are released; nil where they stay

	weightsOnly bool                                           // inputs are not quantized
	decode      func(name string, at int64, w []float32) error // quantized weights are read as float32; nil: as they are

	mu     sync.Mutex
	stored map[string]layout.Stored // by module
	inputs map[string]float32       // scales of inputs, by what shares an input
}

// buffers holds memory that tiles use again.
type buffers struct {
	floats sync.Pool // *[]byte
	codes  sync.Pool // *layout.Buffer
}

func newLoader(cfg *glm.Config, src Source) (*loader, error) {
	s, err := parseScheme(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.readable(cfg, src); err != nil {
		return nil, err
	}
	s.describedBy(cfg, src)
	l := &loader{cfg: cfg, src: src, scheme: s, entries: map[string]*glm.Entry{}, stored: map[string]layout.Stored{},
		inputs: map[string]float32{}}
	found := glm.Survey(cfg, src.Tensors())
	for i := range found.Entries {
		l.entries[found.Entries[i].Name] = &found.Entries[i]
	}
	l.missing = found.Missing
	if err := l.addCaches(); err != nil {
		return nil, err
	}
	return l, l.addRotation()
}

// has reports whether the tensor, in whatever form, is stored.
func (l *loader) has(t *glm.Tensor) bool {
	if t == nil {
		return false
	}
	if l.entries[t.Name] != nil {
		return true
	}
	if t.Param != "weight" {
		return false
	}
	_, err := l.lookup(t)
	return err == nil
}

func (l *loader) lookup(t *glm.Tensor) (layout.Stored, error) {
	l.mu.Lock()
	s, ok := l.stored[t.Module]
	l.mu.Unlock()
	if ok {
		return s, nil
	}
	s, err := layout.Lookup(l.src, t.Module, layout.Hints{Declared: l.scheme.weight, Cols: func(string) int { return int(t.Shape[1]) }})
	if err != nil {
		return s, err
	}
	l.mu.Lock()
	l.stored[t.Module] = s
	l.mu.Unlock()
	return s, nil
}

// rows reads rows lo..hi of a 2-D weight; hi is rounded up to what the layout
// can read.
func (l *loader) rows(t *glm.Tensor, lo, hi int) (*Weight, error) {
	rows, cols := int(t.Shape[0]), int(t.Shape[1])
	if e := l.entries[t.Name]; e != nil && isFloat(e.Source.DType) {
		return l.floatRows(e, lo, min(hi, rows), cols)
	}
	s, err := l.lookup(t)
	if err != nil {
		return nil, err
	}
	if s.Rows != rows || s.Cols != cols {
		return nil, &Error{Where: t.Name, Reason: shapeReason(s.Rows, s.Cols, rows, cols), Kind: ErrIncomplete}
	}
	if !s.Quantized() {
		return l.floatRows(&glm.Entry{Source: s.Codes}, lo, min(hi, rows), cols)
	}
	align := s.RowAlign()
	hi = min((hi+align-1)/align*align, rows)
	if l.decode != nil {
		return l.decodedRows(t, s, lo, hi)
	}
	act, err := l.activation(t, s)
	if err != nil {
		return nil, err
	}
	var scale float32
	if act.When != format.Dynamic {
		if scale, err = l.inputScale(t); err != nil {
			return nil, err
		}
	}
	buf := new(layout.Buffer)
	if l.buffers != nil {
		if b, ok := l.buffers.codes.Get().(*layout.Buffer); ok {
			buf = b
		}
	}
	m, err := buf.ReadRows(l.src, s, lo, hi)
	if err != nil {
		return nil, err
	}
	engineScales(m, s, act)
	w := &Weight{Rows: m.Rows, Cols: cols, Quant: m, Act: act, ActScale: scale}
	if s.Static != nil {
		if w.static, err = loadStatic(l.src, t, s, lo, hi); err != nil {
			return nil, err
		}
	}
	if l.buffers != nil {
		w.release = func() { l.buffers.codes.Put(buf) }
	}
	return w, nil
}

// activation is what engines quantize the input of a weight to: nothing where
// they widen the weight while loading (docs/facts/engine-vllm.md 4).
func (l *loader) activation(t *glm.Tensor, s layout.Stored) (format.Activation, error) {
	act, err := l.scheme.activation(s)
	if l.weightsOnly || t.Role == glm.AttnKVB || t.Role == glm.IndexerK {
		act = format.Activation{}
	}
	return act, err
}

// inputScale returns the scale of a module's static input: the largest of the
// modules that are computed together, as engines take it: a fused group, the
// gate and up projections of all experts of a layer, their down projections
// (docs/facts/formats.md 10.3).
func (l *loader) inputScale(t *glm.Tensor) (float32, error) {
	shares := func(u *glm.Tensor) bool {
		return u.Module == t.Module || t.Group != "" && u.Group == t.Group && (u.Role == glm.ExpertDown) == (t.Role == glm.ExpertDown)
	}
	key := t.Module
	if t.Group != "" {
		key = fmt.Sprint(t.Group, t.Role == glm.ExpertDown)
	}
	l.mu.Lock()
	v, ok := l.inputs[key]
	l.mu.Unlock()
	if ok {
		return v, nil
	}
	table := l.cfg.Table()
	for i := range table {
		u := &table[i]
		if u.Param != "weight" || !shares(u) {
			continue
		}
		s, err := l.lookup(u)
		if err != nil || !s.Quantized() {
			continue // rows says what is wrong with it
		}
		x, has, err := s.InputScale(l.src)
		if err != nil {
			return 0, err
		}
		if has {
			v = max(v, x)
		}
	}
	l.mu.Lock()
	l.inputs[key] = v
	l.mu.Unlock()
	return v, nil
}

// align is the number of rows that tiles of a weight must begin at a multiple
// of.
func (l *loader) align(t *glm.Tensor) int {
	if e := l.entries[t.Name]; e != nil && isFloat(e.Source.DType) {
		return 1
	}
	if s, err := l.lookup(t); err == nil && s.Quantized() {
		return max(1, s.RowAlign())
	}
	return 1
}

// engineScales rounds stored scales as the engines do when they load them: to
// BF16 where the layout says so, and W4A8-FP8 group scales to FP8 under a row
// scale (docs/facts/engine-vllm.md 5 item 2).
func engineScales(m *numeric.Matrix, s layout.Stored, act format.Activation) {
	if s.Quant.Used == format.BF16 {
		for i, v := range m.Scales {
			m.Scales[i] = numeric.RoundBF16(v)
		}
	}
	if s.Quant.Strategy == format.Tensor { // kernels have blocks of rows below the tile
		v := m.Scales[0]
		m.BlockRows, m.Scales = 1, make([]float32, m.Rows)
		for i := range m.Scales {
			m.Scales[i] = v
		}
	}
	if m.Code == numeric.Int4 && act == format.Float8Token {
		n := m.ScaleCols()
		for r := range m.Rows {
			copy(m.Scales[r*n:][:n], numeric.VLLMGroupScales(m.Scales[r*n:][:n]))
		}
	}
}

func isFloat(d safetensors.DType) bool {
	return d == safetensors.BF16 || d == safetensors.F16 || d == safetensors.F32
}

func floatType(d safetensors.DType) kernel.FloatType {
	switch d {
	case safetensors.F16:
		return kernel.F16
	case safetensors.F32:
		return kernel.F32
	}
	return kernel.BF16
}

func (l *loader) floatRows(e *glm.Entry, lo, hi, cols int) (*Weight, error) {
	w := &Weight{Rows: hi - lo, Cols: cols, Type: floatType(e.Source.DType)}
	l.space(w)
	return w, l.src.ReadAt(e.Source, e.Offset+int64(lo)*int64(cols*w.Type.Size()), w.Data)
}

// space gives a weight memory for its data, that of a released one if there is.
func (l *loader) space(w *Weight) {
	n := w.Rows * w.Cols * w.Type.Size()
	if l.buffers == nil {
		w.Data = make([]byte, n)
		return
	}
	buf, _ := l.buffers.floats.Get().(*[]byte)
	if buf == nil || cap(*buf) < n {
		b := make([]byte, n)
		buf = &b
	}
	w.Data = (*buf)[:n]
	w.release = func() { l.buffers.floats.Put(buf) }
}

// vector reads a whole tensor of one dimension as float32.
func (l *loader) vector(t *glm.Tensor) ([]float32, error) {
	info, ok := l.src.Info(t.Name)
	if !ok || !isFloat(info.DType) {
		return nil, &Error{Where: t.Name, Reason: "is missing or has no floating-point dtype", Kind: ErrIncomplete}
	}
	if info.Elements() != t.Elements() {
		return nil, &Error{Where: t.Name, Reason: shapeReason(int(info.Elements()), 1, int(t.Elements()), 1), Kind: ErrIncomplete}
	}
	raw := make([]byte, info.Size)
	if err := l.src.ReadAt(info, 0, raw); err != nil {
		return nil, err
	}
	out := make([]float32, info.Elements())
	floatType(info.DType).Decode(out, raw)
	return out, nil
}
