package check

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/safetensors"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// scaleBias recomputes scale_bias from the packed nibbles and compares
// (docs/facts/ascend.md 2.5): 8·s·Σq over the row, or over each of 16 slices of
// it. A wrong one is silent and shifts every output of the expert.
func (s *subject) scaleBias(ctx context.Context, m *module) ([]Finding, error) {
	w, bias := m.params["weight"], m.params["scale_bias"]
	scale, err := s.floats(ctx, m.params["weight_scale"])
	if err != nil {
		return nil, err
	}
	stored, err := s.floats(ctx, bias)
	if err != nil {
		return nil, err
	}
	slices := len(stored) / int(m.o)
	if slices == 0 || int(m.i)%slices != 0 {
		return nil, nil
	}
	var bad tally
	var want float64
	row := make([]byte, m.i)
	sums, sizes := make([]int64, 2*slices), make([]int64, 2*slices)
	for pair := int64(0); pair < m.o/2; pair++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.ckpt.ReadAt(w, pair*m.i, row); err != nil {
			return nil, err
		}
		clear(sums)
		clear(sizes)
		width := int(m.i) / slices
		for k, b := range row {
			lo, hi := int64(int8(b<<4)>>4), int64(int8(b)>>4)
			c := k / width
			sums[c] += lo
			sums[slices+c] += hi
			sizes[c] += max(lo, -lo)
			sizes[slices+c] += max(hi, -hi)
		}
		for half := range 2 {
			n := 2*int(pair) + half
			for c := range slices {
				unit := 8 * float64(scale[n])
				exact := unit * float64(sums[half*slices+c])
				// Tools sum in F32: rounding is relative to the sum of the
				// magnitudes. One wrong code is 1000 times as much.
				tol := 1e-6 * math.Abs(unit) * float64(max(sizes[half*slices+c], 1))
				if got := stored[n*slices+c]; !(math.Abs(float64(got)-exact) <= tol) {
					if bad.n == 0 {
						want = exact
					}
					bad.note(int64(n*slices+c), got)
				}
			}
		}
	}
	if bad.n == 0 {
		return nil, nil
	}
	return []Finding{found("scale-bias-wrong", bias.Name, describe(bad, bias)+sprintf("; the codes give %g there", want))}, nil
}

// floats reads an F32 tensor that has one or a few values a row.
func (s *subject) floats(ctx context.Context, t safetensors.Info) ([]float32, error) {
	out := make([]float32, t.Elements())
	err := s.each(ctx, t, func(p []byte, off int64) {
		for i := 0; i+4 <= len(p); i += 4 {
			out[off/4+int64(i/4)] = math.Float32frombits(binary.LittleEndian.Uint32(p[i:]))
		}
	})
	return out, err
}
