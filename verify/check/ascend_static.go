package check

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/glmconv/glmconv/safetensors"
)

// staticJobs judges the companions of a static W8A8 weight: what can be
// decided without the activations that they were measured on
// (docs/facts/ascend.md; vllm-ascend w8a8_static.py).
func (s *subject) staticJobs(m *module) []job {
	var jobs []job
	deq, hasDeq := m.params["deq_scale"]
	if hasDeq {
		jobs = append(jobs, job{deq.Size, func(ctx context.Context) ([]Finding, error) { return s.deqScale(ctx, deq) }})
	}
	if own, ok := m.params["weight_scale"]; ok && hasDeq { // W8A8_MIX
		jobs = append(jobs, job{deq.Size + own.Size, func(ctx context.Context) ([]Finding, error) { return s.bothScales(ctx, m) }})
	}
	off, hasOff := m.params["input_offset"]
	if !hasOff || off.Elements() != 1 || !isFloat(off.DType) && off.DType != safetensors.I8 {
		return jobs
	}
	jobs = append(jobs, job{off.Size, func(ctx context.Context) ([]Finding, error) { return s.inputOffset(ctx, off) }})
	bias, ok := m.params["quant_bias"]
	if w := m.params["weight"]; ok && hasDeq && bias.DType == safetensors.I32 && bias.Elements() == m.o && deq.Elements() == m.o && deqType(deq.DType) &&
		w.DType == safetensors.I8 && w.Size == m.o*m.i {
		jobs = append(jobs, job{w.Size, func(ctx context.Context) ([]Finding, error) { return s.quantBias(ctx, m) }})
	}
	return jobs
}

// deqType tells whether eachScale reads a deq_scale of this type.
func deqType(d safetensors.DType) bool { return isFloat(d) || d == safetensors.I64 }

// deqScale: F32 for BF16 models and 64-bit integers, the bits of an F32 value
// in the low half, for float16 ones; positive and finite.
func (s *subject) deqScale(ctx context.Context, t safetensors.Info) ([]Finding, error) {
	want, model := safetensors.F32, "bfloat16"
	if s.cfg.DType == "float16" || s.cfg.DType == "half" {
		want, model = safetensors.I64, "float16"
	}
	if t.DType != want {
		return []Finding{found("static-deq-scale", t.Name, sprintf("it is %s; for a %s model the engine reads %s", t.DType, model, want))}, nil
	}
	var bad tally
	err := s.eachScale(ctx, t, func(i int64, v float32) {
		if !(v > 0) || math.IsInf(float64(v), 0) {
			bad.note(i, v)
		}
	})
	if err != nil || bad.n == 0 {
		return nil, err
	}
	return []Finding{found("static-deq-scale", t.Name, "not a positive number: "+describe(bad, t))}, nil
}

// mixSlack is how far a product in BF16 is from an exact one, and more.
const mixSlack = 1.0 / 64

// bothScales: a W8A8_MIX weight has its own scales beside deq_scale = input_scale
// · weight_scale; decode and prefill read one each.
func (s *subject) bothScales(ctx context.Context, m *module) ([]Finding, error) {
	deq, own, in := m.params["deq_scale"], m.params["weight_scale"], m.params["input_scale"]
	if deq.Elements() != own.Elements() || in.Elements() != 1 || !isFloat(own.DType) || !isFloat(in.DType) || !deqType(deq.DType) {
		return nil, nil
	}
	by, err := s.one(ctx, in)
	if err != nil {
		return nil, err
	}
	want := make([]float64, 0, own.Elements())
	if err := s.eachFloat(ctx, own, func(_ int64, v float32) { want = append(want, float64(v)*float64(by)) }); err != nil {
		return nil, err
	}
	var bad tally
	err = s.eachScale(ctx, deq, func(i int64, v float32) {
		if math.Abs(float64(v)-want[i]) > mixSlack*math.Abs(want[i]) {
			bad.note(i, v)
		}
	})
	if err != nil || bad.n == 0 {
		return nil, err
	}
	return []Finding{found("static-deq-scale", deq.Name, "it is not input_scale times weight_scale: "+describe(bad, deq))}, nil
}

// eachScale reads deq_scale in either type.
func (s *subject) eachScale(ctx context.Context, t safetensors.Info, fn func(i int64, v float32)) error {
	if t.DType != safetensors.I64 {
		return s.eachFloat(ctx, t, fn)
	}
	return s.each(ctx, t, func(p []byte, off int64) {
		for i := 0; i+8 <= len(p); i += 8 {
			fn(off/8+int64(i/8), math.Float32frombits(uint32(binary.LittleEndian.Uint64(p[i:]))))
		}
	})
}

// one reads a tensor of one number.
func (s *subject) one(ctx context.Context, t safetensors.Info) (v float32, err error) {
	if t.DType == safetensors.I8 {
		return v, s.each(ctx, t, func(p []byte, _ int64) { v = float32(int8(p[0])) })
	}
	return v, s.eachFloat(ctx, t, func(_ int64, x float32) { v = x })
}

func (s *subject) inputOffset(ctx context.Context, t safetensors.Info) ([]Finding, error) {
	v, err := s.one(ctx, t)
	if err != nil {
		return nil, err
	}
	if v != float32(math.Trunc(float64(v))) || !(v >= -128 && v <= 127) {
		return []Finding{found("static-offset", t.Name, sprintf("it is %g, the engine keeps it as an integer of 8 bits", v))}, nil
	}
	return nil, nil
}

// quantBias recomputes quant_bias = bias/deq_scale − input_offset·Σ codes of
// the row. A rounded bias may be off by one.
func (s *subject) quantBias(ctx context.Context, m *module) ([]Finding, error) {
	t := m.params["quant_bias"]
	offset, err := s.one(ctx, m.params["input_offset"])
	if err != nil || offset != float32(math.Trunc(float64(offset))) || math.Abs(float64(offset)) > 1<<20 {
		return nil, err // static-offset
	}
	sums := make([]int64, m.o)
	if err := s.each(ctx, m.params["weight"], func(p []byte, off int64) {
		for k, b := range p {
			sums[(off+int64(k))/m.i] += int64(int8(b))
		}
	}); err != nil {
		return nil, err
	}
	bias, slack, err := s.moduleBias(ctx, m)
	if err != nil {
		return nil, err
	}
	stored := make([]int32, 0, m.o)
	if err := s.each(ctx, t, func(p []byte, _ int64) {
		for i := 0; i+4 <= len(p); i += 4 {
			stored = append(stored, int32(binary.LittleEndian.Uint32(p[i:])))
		}
	}); err != nil {
		return nil, err
	}
	var bad tally
	var want float64
	for n := range stored {
		exact := bias[n] - float64(int64(offset)*sums[n])
		if math.Abs(float64(stored[n])-exact) > slack+math.Abs(bias[n])*1e-5 {
			if bad.n == 0 {
				want = exact
			}
			bad.note(int64(n), float32(stored[n]))
		}
	}
	if bad.n == 0 {
		return nil, nil
	}
	return []Finding{found("static-quant-bias", t.Name, describe(bad, t)+sprintf("; codes and offset %g give %.0f there", offset, want))}, nil
}

// moduleBias is the module's bias in units of deq_scale, and how far rounding
// may be off.
func (s *subject) moduleBias(ctx context.Context, m *module) (bias []float64, slack float64, err error) {
	bias = make([]float64, m.o)
	b, ok := m.params["bias"]
	if !ok || b.Elements() != m.o || !isFloat(b.DType) {
		return bias, 0.5, nil
	}
	if err := s.eachFloat(ctx, b, func(i int64, v float32) { bias[i] = float64(v) }); err != nil {
		return nil, 0, err
	}
	return bias, 1.5, s.eachScale(ctx, m.params["deq_scale"], func(i int64, v float32) { bias[i] /= float64(v) })
}

// checkShared compares the input scales and offsets of static weights that
// the engine fuses: it keeps those of the last shard for all.
func (s *subject) checkShared(ctx context.Context) error {
	first := map[string]*module{}
	for _, m := range s.modules {
		g := m.row.Group
		if g == "" || m.row.Role.IsExpert() || m.form.kind != ascendStatic && m.form.kind != ascendMix {
			continue
		}
		a, ok := first[g]
		if !ok {
			first[g] = m
			continue
		}
		for _, param := range []string{"input_scale", "input_offset"} {
			x, y := a.params[param], m.params[param]
			if x.Elements() != 1 || y.Elements() != 1 || !isFloat(x.DType) && x.DType != safetensors.I8 || !isFloat(y.DType) && y.DType != safetensors.I8 {
				continue
			}
			u, err := s.one(ctx, x)
			if err != nil {
				return err
			}
			v, err := s.one(ctx, y)
			if err != nil {
				return err
			}
			if u != v {
				s.add("static-shared-input", y.Name, "it is %g, %s is %g; the engine fuses the two", v, x.Name, u)
			}
		}
	}
	return nil
}
