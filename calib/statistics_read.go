package calib

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// momentsSuffix is that of the tensor that tells that a projection has moments.
const momentsSuffix = ".in_sum2"

// Names are the tensors that there are moments of, sorted.
func (s *Statistics) Names() []string {
	all := map[string]bool{}
	for name := range s.held {
		all[name] = true
	}
	for _, f := range s.files {
		for _, t := range f.Tensors() {
			if base, ok := strings.CutSuffix(t.Name, momentsSuffix); ok {
				all[base+".weight"] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Moments returns those of a tensor's inputs, of all parts together; nil if there
// are none. What files hold is read anew by each call.
func (s *Statistics) Moments(name string) (*Moments, error) { return s.moments(name, true) }

// moments returns those of a tensor, with the sample or, if files hold it, without.
func (s *Statistics) moments(name string, sample bool) (*Moments, error) {
	all := s.held[name]
	base := strings.TrimSuffix(name, ".weight")
	for _, f := range s.files {
		if _, ok := f.Tensor(base + momentsSuffix); !ok {
			continue
		}
		r := &reader{f: f}
		m := r.moments(base, sample)
		if r.err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path(), r.err)
		}
		all = joined(all, m)
	}
	return all, nil
}

// joined adds those of the next part.
func joined(all, next *Moments) *Moments {
	if all == nil || len(all.sum2) != len(next.sum2) {
		return next
	}
	all.merge(next)
	return all
}

// Close closes the files that Read opened; of the statistics, moments are then gone.
func (s *Statistics) Close() error {
	var first error
	for _, f := range s.files {
		if err := f.Close(); first == nil {
			first = err
		}
	}
	s.files = nil
	return first
}

// Shown returns the moments of the inputs of a tensor's projection, under
// whatever name they were gathered; nil if there are none.
func (s *Statistics) Shown(cfg *glm.Config, t *glm.Tensor) (*Moments, error) {
	return s.shown(cfg, t, true)
}

func (s *Statistics) shown(cfg *glm.Config, t *glm.Tensor, sample bool) (*Moments, error) {
	if m, err := s.moments(t.Name, sample); m != nil || err != nil {
		return m, err
	}
	for _, r := range shownBy[t.Role] {
		if other := s.find(cfg, t.Layer, r, t.Expert); other != nil {
			return s.moments(other.Name, sample)
		}
	}
	return nil, nil
}

// reader reads tensors of a file; the first error stays.
type reader struct {
	f   *safetensors.File
	err error
}

// tensor finds a tensor of n elements, any number if n is negative.
func (r *reader) tensor(name string, d safetensors.DType, n int) (t safetensors.Info) {
	if r.err == nil {
		var ok bool
		if t, ok = r.f.Tensor(name); !ok || t.DType != d || n >= 0 && t.Elements() != int64(n) {
			r.err = fmt.Errorf("%w: %s is missing or has another form", ErrStatistics, name)
		}
	}
	return t
}

func (r *reader) raw(name string, d safetensors.DType, n int) []byte {
	t := r.tensor(name, d, n)
	if r.err != nil {
		return nil
	}
	b := make([]byte, t.Size)
	r.err = r.f.ReadTensor(t, 0, b)
	return b
}

func (r *reader) ints(name string, size int) []int64 {
	d := safetensors.I32
	if size == 8 {
		d = safetensors.I64
	}
	b := r.raw(name, d, -1)
	out := make([]int64, len(b)/size)
	for i := range out {
		if size == 8 {
			out[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
		} else {
			out[i] = int64(int32(binary.LittleEndian.Uint32(b[4*i:])))
		}
	}
	return out
}

func (r *reader) floats64(name string, n int) []float64 {
	b := r.raw(name, safetensors.F64, n)
	out := make([]float64, len(b)/8)
	for i := range out {
		if out[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:])); math.IsNaN(out[i]) || math.IsInf(out[i], 0) {
			r.err = fmt.Errorf("%w: %s has values that are not finite", ErrStatistics, name)
		}
	}
	return out
}

// moments reads those of one projection, with the sample or without.
func (r *reader) moments(base string, sample bool) *Moments {
	values := r.floats64(base+momentsSuffix, -1)
	n := len(values)
	rests := r.floats64(base+".in_sum2_rest", n)
	top := r.raw(base+".in_absmax", safetensors.F32, n)
	count := r.ints(base+".count", 8)
	keys := r.ints(base+".sample_key", 8)
	r.tensor(base+".sample", safetensors.BF16, len(keys)*n)
	if r.err == nil && (len(count) != 1 || count[0] < 0 || len(rests) != n) {
		r.err = fmt.Errorf("%w: %s has another form", ErrStatistics, base)
	}
	if r.err != nil {
		return nil
	}
	m := newMoments(n)
	m.Count = count[0]
	for i, v := range values {
		if v < 0 {
			r.err = fmt.Errorf("%w: a sum of squares of %s is negative", ErrStatistics, base)
			return nil
		}
		m.sum2[i] = sumOf(v, rests[i])
	}
	numeric.DecodeF32(m.AbsMax, top)
	for _, v := range m.AbsMax {
		if !(v >= 0 && v <= math.MaxFloat32) {
			r.err = fmt.Errorf("%w: a largest value of %s is none: %g", ErrStatistics, base, v)
			return nil
		}
	}
	r.ranges(m, base)
	if !sample || r.err != nil {
		return m
	}
	raw := r.raw(base+".sample", safetensors.BF16, len(keys)*n)
	if r.err != nil {
		return nil
	}
	all := make([]float32, len(raw)/2)
	numeric.DecodeBF16(all, raw)
	for i, k := range keys {
		m.keys, m.rows = append(m.keys, uint64(k)), append(m.rows, all[i*n:(i+1)*n])
	}
	return m
}
