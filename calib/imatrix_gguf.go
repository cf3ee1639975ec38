package calib

import (
	"fmt"
	"math"
	"strings"
)

// The types of GGUF values that have a fixed size, by their number (gguf.h of
// llama.cpp), and the two that have none.
var ggufSizes = map[uint64]uint64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

const (
	ggufString = 8
	ggufArray  = 9
	ggufF32    = 0 // of tensors
)

// ggufTensor is the header of a tensor.
type ggufTensor struct {
	name     string
	elements uint64
	offset   uint64
}

// gguf reads <tensor>.in_sum2 [columns, parts] and <tensor>.counts [1, parts].
func (r *binaryReader) gguf() map[string]imatrixEntry {
	r.bytes(4)
	if v := r.u32(); r.err == nil && v != 2 && v != 3 {
		r.err = fmt.Errorf("GGUF of version %d", v)
	}
	tensors, pairs := r.u64(), r.u64()
	align := uint64(32)
	for i := uint64(0); i < pairs && r.err == nil; i++ {
		key := string(r.bytes(r.u64()))
		kind := r.u32()
		if key == "general.alignment" && kind == 4 {
			align = r.u32()
			continue
		}
		r.skip(kind)
	}
	if r.err == nil && (align == 0 || align > 1<<20) {
		r.err = fmt.Errorf("an alignment of %d", align)
	}
	var list []ggufTensor
	for i := uint64(0); i < tensors && r.err == nil; i++ {
		list = append(list, r.ggufTensor())
	}
	if r.err != nil {
		return nil
	}
	base := (uint64(r.at) + align - 1) / align * align
	values, left := map[string][]float64{}, uint64(len(r.b)) // tensors do not share bytes
	for _, t := range list {
		if t.offset > uint64(len(r.b)) || base+t.offset > uint64(len(r.b)) || t.elements > left/4 {
			r.err = errShort
			return nil
		}
		left -= 4 * t.elements
		r.at = int(base + t.offset)
		values[t.name] = r.floats(t.elements)
	}
	return r.entries(values)
}

// skip passes over a value.
func (r *binaryReader) skip(kind uint64) {
	n := uint64(1)
	if kind == ggufArray {
		kind, n = r.u32(), r.u64()
	}
	size, fixed := ggufSizes[kind]
	switch {
	case r.err != nil:
	case fixed && n <= uint64(len(r.b)):
		r.bytes(n * size)
	case kind == ggufString:
		for i := uint64(0); i < n && r.err == nil; i++ {
			r.bytes(r.u64())
		}
	default:
		r.err = fmt.Errorf("a value of type %d", kind)
	}
}

// ggufTensor reads the header of a tensor in F32.
func (r *binaryReader) ggufTensor() ggufTensor {
	t := ggufTensor{name: string(r.bytes(r.u64())), elements: 1}
	dims := r.u32()
	for i := uint64(0); i < dims && r.err == nil; i++ {
		d := r.u64()
		if d == 0 || dims > 4 || d > uint64(len(r.b)) || t.elements > uint64(len(r.b)) {
			r.err = errShort
		}
		t.elements *= max(d, 1)
	}
	if kind := r.u32(); r.err == nil && kind != ggufF32 {
		r.err = fmt.Errorf("%.60q is of type %d, not F32", t.name, kind)
	}
	t.offset = r.u64()
	return t
}

// entries pairs sums with counts.
func (r *binaryReader) entries(values map[string][]float64) map[string]imatrixEntry {
	out := map[string]imatrixEntry{}
	for name, sums := range values {
		base, ok := strings.CutSuffix(name, ".in_sum2")
		if !ok {
			continue
		}
		counts := values[base+".counts"]
		if len(counts) == 0 || len(sums)%len(counts) != 0 {
			r.err = fmt.Errorf("%.60q has no counts that go with it", base)
			return nil
		}
		e := imatrixEntry{means: sums}
		width := len(sums) / len(counts)
		for p, n := range counts {
			if n > math.MaxInt32 {
				r.err = fmt.Errorf("%.60q has a count of %g", base, n)
				return nil
			}
			e.counts = append(e.counts, int64(n))
			for c := range width {
				e.means[p*width+c] /= max(1, float64(int64(n)))
			}
		}
		out[base] = e
	}
	if len(out) == 0 {
		r.err = fmt.Errorf("it has no tensor .in_sum2")
	}
	return out
}
