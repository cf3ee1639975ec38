package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// chunk is how much of a tensor is in memory at a time.
const chunk = 1 << 20

// meter counts bytes for Options.Progress.
type meter struct {
	mu          sync.Mutex
	done, total int64
	detail      string // what is read; set while nothing is
	fn          func(done, total int64, detail string)
}

func newMeter(fn func(done, total int64, detail string)) *meter {
	if fn == nil {
		fn = func(int64, int64, string) {}
	}
	return &meter{fn: fn}
}

func (m *meter) expect(n int64) { m.mu.Lock(); m.total += n; m.mu.Unlock() }

func (m *meter) add(n int64) {
	m.mu.Lock()
	m.done += n
	m.fn(m.done, m.total, m.detail)
	m.mu.Unlock()
}

// job is one tensor, or one module, whose values are read.
type job struct {
	bytes int64
	run   func(ctx context.Context) ([]Finding, error)
}

// checkValues streams the scales of every quantised weight, the router
// biases, the codes behind every scale_bias and, on request, all weights.
func (s *subject) checkValues(ctx context.Context, meter *meter) error {
	if s.model == nil {
		return nil
	}
	var jobs []job
	matrices := &sizes{}
	for _, m := range s.modules {
		jobs = append(jobs, s.sizeJobs(m, matrices)...)
		jobs = append(jobs, s.valueJobs(m)...)
	}
	for _, row := range s.rows {
		if t, ok := s.tensors[row.Name]; ok && row.Role == glm.RouterBias && isFloat(t.DType) {
			jobs = append(jobs, job{t.Size, func(ctx context.Context) ([]Finding, error) { return s.routerBias(ctx, t) }})
		}
	}
	jobs = append(jobs, s.cacheJobs()...)
	jobs = append(jobs, s.copyJobs()...)
	of := &layers{}
	jobs = append(jobs, s.layerJobs(of)...)
	for _, j := range jobs {
		meter.expect(j.bytes)
	}
	results := make([][]Finding, len(jobs)) // in order, so that reports do not depend on timing
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.opts.Workers)
	for i, j := range jobs {
		g.Go(func() (err error) {
			results[i], err = j.run(ctx)
			meter.add(j.bytes)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, fs := range results {
		s.report.Findings = append(s.report.Findings, fs...)
	}
	s.tellLayers(of)
	s.tellSizes(matrices, of.fused())
	return nil
}

func found(code, where, detail string) Finding {
	sub := subject{report: &Report{}}
	return *sub.add(code, where, "%s", detail)
}

func (s *subject) valueJobs(m *module) []job {
	if m.stack != nil {
		return s.stackedJobs(m)
	}
	var jobs []job
	add := func(t safetensors.Info, fn func(ctx context.Context, t safetensors.Info) ([]Finding, error)) {
		jobs = append(jobs, job{t.Size, func(ctx context.Context) ([]Finding, error) { return fn(ctx, t) }})
	}
	if m.form.quantized() && m.form.kind != foreign {
		for _, name := range []string{"weight_scale", "weight_scale_inv", "deq_scale"} {
			if t, ok := m.params[name]; ok && isFloat(t.DType) {
				add(t, func(ctx context.Context, t safetensors.Info) ([]Finding, error) { return s.scales(ctx, m, t) })
			}
		}
		if b, ok := blocksOf(m); ok {
			jobs = append(jobs, job{b.scale.Size, func(ctx context.Context) ([]Finding, error) { return s.blockScales(ctx, b) }})
		}
		if t, ok := m.params["weight"]; ok && m.form.kind == int4Bytes && m.form.group == 0 {
			jobs = append(jobs, job{min(t.Size, bitsProbe), func(context.Context) ([]Finding, error) { return s.declaredBits(m, t) }})
		}
		if t, ok := m.params["weight_offset"]; ok && isFloat(t.DType) {
			add(t, s.offsets)
		}
		if t, ok := m.params["weight_shape"]; ok {
			add(t, func(_ context.Context, t safetensors.Info) ([]Finding, error) { return s.weightShape(m, t) })
		}
		if b, ok := m.params["scale_bias"]; ok && s.wellFormed(m) {
			jobs = append(jobs, job{b.Size + m.params["weight"].Size, func(ctx context.Context) ([]Finding, error) { return s.scaleBias(ctx, m) }})
		}
	}
	if m.form.kind == foreign {
		jobs = append(jobs, s.foreignJobs(m)...)
	}
	jobs = append(jobs, s.inputJobs(m)...)
	if m.form.kind == ascendStatic || m.form.kind == ascendMix {
		jobs = append(jobs, s.staticJobs(m)...)
	}
	for _, param := range []string{"weight", "weight_packed", "qweight"} {
		w, ok := m.params[param]
		if !ok || !s.opts.Weights {
			continue
		}
		add(w, func(ctx context.Context, t safetensors.Info) ([]Finding, error) { return s.weights(ctx, m, t) })
	}
	return jobs
}

// foreignJobs read the scales of another tool's weight, under the names that the
// tools have for them.
func (s *subject) foreignJobs(m *module) (jobs []job) {
	for _, name := range []string{"weight_scale", "weight_scale_inv", "scales"} {
		if t, ok := m.params[name]; ok && isFloat(t.DType) {
			jobs = append(jobs, job{t.Size, func(ctx context.Context) ([]Finding, error) { return s.scales(ctx, m, t) }})
		}
	}
	if b, ok := blocksOf(m); ok {
		jobs = append(jobs, job{b.scale.Size, func(ctx context.Context) ([]Finding, error) { return s.blockScales(ctx, b) }})
	}
	jobs = append(jobs, s.wordJobs(m)...)
	if st := m.stored; st != nil && s.opts.Weights && st.Order.Name != "" && st.Format != layout.GPTQ {
		jobs = append(jobs, job{st.Order.Size, func(context.Context) ([]Finding, error) { return s.order(st) }})
	}
	return jobs
}

// order reads the first rows of a weight whose columns have groups of their own
// order, which has to name groups that there are.
func (s *subject) order(st *layout.Stored) ([]Finding, error) {
	var buf layout.Buffer
	_, err := buf.ReadRows(s.ckpt, *st, 0, min(max(st.RowAlign(), 1), st.Rows))
	switch {
	case errors.Is(err, layout.ErrMalformed):
		return []Finding{found("code-range", st.Order.Name, reason(err))}, nil
	case errors.Is(err, layout.ErrForeign):
		return []Finding{found("companion-dtype", st.Order.Name, reason(err))}, nil
	}
	return nil, err
}

// inputJobs read the scales of a module's input and the scales of scales, in
// every tool's format.
func (s *subject) inputJobs(m *module) (jobs []job) {
	for _, p := range []struct {
		name, of string
		divisor  bool
	}{
		{"input_scale", "the module's input", false}, {"input_scale_2", "the module's input", false}, {"input_global_scale", "the module's input", true},
		{"weight_scale_2", "the weight's scales", false}, {"weight_global_scale", "the weight's scales", true},
	} {
		if t, ok := m.params[p.name]; ok && isFloat(t.DType) && m.form.quantized() {
			jobs = append(jobs, job{t.Size, func(ctx context.Context) ([]Finding, error) {
				return s.absurdScales(ctx, t, p.of, leastScale, p.divisor)
			}})
		}
	}
	return jobs
}

// wellFormed tells whether every part of the module has its dtype and shape.
func (s *subject) wellFormed(m *module) bool {
	for _, p := range m.form.parts(m.o, m.i, sliced(m.row.Role)) {
		t, ok := m.params[p.param]
		if !ok || safetensors.DataSize(p.dtypes[0], p.shape) != t.Size || t.DType != p.dtypes[0] {
			return false
		}
	}
	return true
}

// each calls fn with pieces of a tensor's bytes; off counts from its start.
func (s *subject) each(ctx context.Context, t safetensors.Info, fn func(p []byte, off int64)) error {
	buf := make([]byte, min(chunk, t.Size))
	for off := int64(0); off < t.Size; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf = buf[:min(int64(len(buf)), t.Size-off)]
		if err := s.ckpt.ReadAt(t, off, buf); err != nil {
			return err
		}
		fn(buf, off)
	}
	return nil
}

// eachFloat calls fn for every element of a float tensor.
func (s *subject) eachFloat(ctx context.Context, t safetensors.Info, fn func(i int64, v float32)) error {
	if !isFloat(t.DType) && t.DType != safetensors.F8E4M3 {
		return fmt.Errorf("check: %s is %s, which holds no floating-point numbers: %w", t.Name, t.DType, layout.ErrMalformed)
	}
	width := int64(t.DType.Bits() / 8)
	vals := make([]float32, min(chunk, t.Size)/width)
	var derr error
	err := s.each(ctx, t, func(p []byte, off int64) {
		v := vals[:int64(len(p))/width]
		if err := decodeFloats(v, p, t.DType); err != nil {
			derr = err
			return
		}
		for i, x := range v {
			fn(off/width+int64(i), x)
		}
	})
	if err == nil {
		err = derr
	}
	return err
}

// decodeFloats is layout.DecodeFloats, and takes F64 as well: no layout stores
// it, which is a finding and no reason to look no further.
func decodeFloats(dst []float32, src []byte, d safetensors.DType) error {
	if d != safetensors.F64 {
		return layout.DecodeFloats(dst, src, d)
	}
	for i := range dst {
		dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
	}
	return nil
}

// tally counts one kind of bad value and remembers the first.
type tally struct {
	n, first int64
	value    float32
}

func (t *tally) note(i int64, v float32) {
	if t.n == 0 {
		t.first, t.value = i, v
	}
	t.n++
}

func isBF16(v float32) bool { return math.Float32bits(v)&0xffff == 0 }

// scales judges the values of a scale tensor.
func (s *subject) scales(ctx context.Context, m *module, t safetensors.Info) ([]Finding, error) {
	var bad, zero, neg, unset, odd tally
	err := s.eachFloat(ctx, t, func(i int64, v float32) {
		switch {
		case v != v || math.IsInf(float64(v), 0):
			bad.note(i, v)
		case v == -math.MaxFloat32:
			unset.note(i, v)
		case v == 0:
			zero.note(i, v)
		case v < 0:
			neg.note(i, v)
		case t.DType == safetensors.F32 && !isBF16(v):
			odd.note(i, v)
		}
	})
	if err != nil {
		return nil, err
	}
	var out []Finding
	add := func(code string, n tally, what string) *Finding {
		f := found(code, t.Name, what+": "+describe(n, t))
		out = append(out, f)
		return &out[len(out)-1]
	}
	if bad.n > 0 {
		add("scale-nonfinite", bad, "NaN or infinite")
	}
	if unset.n > 0 {
		add("scale-unset", unset, "never set")
	}
	rare := m.form.kind == foreign && s.activations(m.group) == "" && int64(zero.n)*1000 <= t.Elements() // groups of next to nothing, which F16 has no scale for
	if zero.n > 0 && !rare {
		add("scale-zero", zero, "zero")
	}
	weightOnly := (m.form.kind == int4Packed || m.form.kind == int8Packed || m.form.kind == foreign) && s.activations(m.group) == ""
	if neg.n > 0 && !weightOnly { // weight-only kernels take the sign as it is
		f := add("scale-negative", neg, "negative")
		if m.form.kind == int4Packed || m.form.kind == int4Bytes {
			f.as(Warning)
			f.Detail += "; kernels with quantised activations are not known to take it"
		}
	}
	if odd.n > 0 && m.form.kind == ascendInt8 {
		add("scale-not-bf16", odd, "not a BF16 number")
	}
	return out, nil
}

// activations returns the type of a group's activations.
func (s *subject) activations(group string) string {
	if s.decl != nil {
		for _, g := range s.decl.groups {
			if g.name == group && g.acts != nil {
				return g.acts.Type
			}
		}
	}
	return ""
}

func describe(n tally, t safetensors.Info) string {
	return sprintf("%d of %d, the first at index %d (%g)", n.n, t.Elements(), n.first, n.value)
}

func (s *subject) offsets(ctx context.Context, t safetensors.Info) ([]Finding, error) {
	var bad tally
	err := s.eachFloat(ctx, t, func(i int64, v float32) {
		if v != 0 {
			bad.note(i, v)
		}
	})
	if err != nil || bad.n == 0 {
		return nil, err
	}
	return []Finding{found("offset-nonzero", t.Name, describe(bad, t))}, nil
}

// routerBias notices a bias of zeros, and an F32 bias whose values all fit BF16.
func (s *subject) routerBias(ctx context.Context, t safetensors.Info) ([]Finding, error) {
	var bad, odd, zero tally
	err := s.eachFloat(ctx, t, func(i int64, v float32) {
		switch {
		case v != v || math.IsInf(float64(v), 0):
			bad.note(i, v)
		case !isBF16(v):
			odd.note(i, v)
		case v == 0:
			zero.note(i, v)
		}
	})
	if err != nil {
		return nil, err
	}
	if bad.n > 0 {
		return []Finding{found("weight-nonfinite", t.Name, describe(bad, t))}, nil
	}
	n := t.Elements()
	switch {
	case n >= 4 && zero.n == n:
		return []Finding{found("router-bias-zero", t.Name, sprintf("all %d values are 0: experts are chosen as if the router had never been balanced", n))}, nil
	case n >= 4 && odd.n == 0 && t.DType == safetensors.F32:
		return []Finding{found("router-bias-rounded", t.Name, sprintf("all %d values are BF16 numbers", n))}, nil
	}
	return nil, nil
}

func (s *subject) weightShape(m *module, t safetensors.Info) ([]Finding, error) {
	raw := make([]byte, t.Size)
	if err := s.ckpt.ReadAt(t, 0, raw); err != nil {
		return nil, err
	}
	var got []int64
	switch {
	case t.DType == safetensors.I64 && len(raw) == 16:
		got = []int64{int64(binary.LittleEndian.Uint64(raw)), int64(binary.LittleEndian.Uint64(raw[8:]))}
	case t.DType == safetensors.I32 && len(raw) == 8:
		got = []int64{int64(int32(binary.LittleEndian.Uint32(raw))), int64(int32(binary.LittleEndian.Uint32(raw[4:])))}
	default:
		return nil, nil // companion-dtype or companion-shape
	}
	if got[0] == m.o && got[1] == m.i {
		return nil, nil
	}
	return []Finding{found("weight-shape-wrong", t.Name, sprintf("it says %v, the weight is [%d %d]", got, m.o, m.i))}, nil
}
