package calib

import (
	"fmt"
	"maps"
	"slices"

	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Limits are the least and the largest value of each channel, 0 included.
type Limits struct{ Lo, Hi []float32 }

func newLimits(n int) *Limits { return &Limits{make([]float32, n), make([]float32, n)} }

// add takes rows.
func (l *Limits) add(rows []float32) {
	n := len(l.Lo)
	for at := 0; at+n <= len(rows); at += n {
		for i, v := range rows[at:][:n] {
			l.Lo[i], l.Hi[i] = min(l.Lo[i], v), max(l.Hi[i], v)
		}
	}
}

// merge takes those of another part.
func (l *Limits) merge(o *Limits) {
	for i := range l.Lo {
		l.Lo[i], l.Hi[i] = min(l.Lo[i], o.Lo[i]), max(l.Hi[i], o.Hi[i])
	}
}

// limitsOut are the tensors that hold them.
func limitsOut(m map[string]*Limits) (out []tensorOut) {
	for _, module := range slices.Sorted(maps.Keys(m)) {
		l := m[module]
		for _, x := range []struct {
			param string
			v     []float32
		}{{".cache_min", l.Lo}, {".cache_max", l.Hi}} {
			out = append(out, tensorOut{spec: safetensors.Spec{Name: module + x.param, DType: safetensors.F32, Shape: []int64{int64(len(x.v))}}, data: numeric.AppendF32(nil, x.v)})
		}
	}
	return out
}

// limits reads those of a module's output.
func (r *reader) limits(module string) *Limits {
	lo := r.raw(module+".cache_min", safetensors.F32, -1)
	l := newLimits(len(lo) / 4)
	hi := r.raw(module+".cache_max", safetensors.F32, len(l.Lo))
	r.fill(l.Lo, l.Hi, lo, hi, module)
	return l
}

// ranges reads the least and the largest inputs of a projection, where the
// statistics have them.
func (r *reader) ranges(m *Moments, base string) {
	if _, ok := r.f.Tensor(base + ".in_min"); !ok {
		m.Lo, m.Hi = nil, nil
		return
	}
	n := len(m.Lo)
	lo, hi := r.raw(base+".in_min", safetensors.F32, n), r.raw(base+".in_max", safetensors.F32, n)
	r.fill(m.Lo, m.Hi, lo, hi, base)
}

// fill decodes least and largest values; they lie around 0.
func (r *reader) fill(lo, hi []float32, rawLo, rawHi []byte, of string) {
	if r.err != nil {
		return
	}
	numeric.DecodeF32(lo, rawLo)
	numeric.DecodeF32(hi, rawHi)
	for i := range lo {
		if !(lo[i] <= 0 && hi[i] >= 0) {
			r.err = fmt.Errorf("%w: the ranges of %s are none: %g to %g", ErrStatistics, of, lo[i], hi[i])
			return
		}
	}
}
