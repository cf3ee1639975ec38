package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// checkRotationFile judges the matrix that msmodelslim leaves beside a rotated
// model, which drafts of other kinds (EAGLE3) are turned by: it must be there,
// orthogonal, and that of rot.weight = Qᵀ·diag(g)·Q (docs/facts/ascend.md 5.4).
func (s *subject) checkRotationFile(ctx context.Context, meter *meter) error {
	var optional struct {
		Quarot struct {
			Map map[string]json.RawMessage `json:"rotation_map"`
		} `json:"quarot"`
	}
	if !s.ascend || s.model == nil || json.Unmarshal(s.desc["optional"], &optional) != nil {
		return nil
	}
	var name string
	if json.Unmarshal(optional.Quarot.Map[layout.GlobalRotation], &name) != nil || name != layout.RotationFile {
		return nil
	}
	f, err := safetensors.OpenFile(source.Join(s.ckpt.Dir(), name))
	if err != nil {
		found := s.add("rot-file", name, "the description names it: %v", err)
		var e *safetensors.Error
		if errors.As(err, &e) && e.Hint() != "" {
			found.hint(e.Hint())
		}
		return nil
	}
	defer func() { _ = f.Close() }()
	t, ok := f.Tensor(layout.GlobalRotation)
	h := int64(s.cfg.HiddenSize)
	if !ok || t.DType != safetensors.F32 || len(t.Shape) != 2 || t.Shape[0] != h || t.Shape[1] != h {
		s.add("rot-file", name, "it has no %s F32 [%d %d]", layout.GlobalRotation, h, h)
		return nil
	}
	meter.expect(2 * t.Size)
	defer meter.add(2 * t.Size)
	return s.rotationOf(ctx, rotationRows{f, t, int(h)}, name)
}

// rotationRows reads rows of a matrix of F32.
type rotationRows struct {
	f *safetensors.File
	t safetensors.Info
	h int
}

func (r rotationRows) row(i int, raw []byte, x []float32) error {
	if err := r.f.ReadTensor(r.t, int64(i)*int64(4*r.h), raw); err != nil {
		return err
	}
	return layout.DecodeFloats(x, raw, safetensors.F32)
}

// rotationOf takes a few rows q of Q: Q·q is a unit vector, and so is
// Q·rot·q but for a factor, the gain of that channel.
func (s *subject) rotationOf(ctx context.Context, m rotationRows, name string) error {
	h := m.h
	raw, x, q := make([]byte, 4*h), make([]float32, h), make([]float32, h)
	rot, stored := s.tensors[rotName]
	stored = stored && isFloat(rot.DType) && rot.Elements() == int64(h)*int64(h)
	for _, i := range []int{0, h / 3, h - 1} {
		if err := m.row(i, raw, q); err != nil {
			return err
		}
		turned := make([]float64, h) // rot·q
		if stored {
			err := s.eachFloat(ctx, rot, func(at int64, v float32) {
				turned[at/int64(h)] += float64(v) * float64(q[at%int64(h)])
			})
			if err != nil {
				return err
			}
		}
		var own, other, gain float64 // the largest of Q·q and of Q·rot·q beside place i, and the latter there
		for r := range h {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := m.row(r, raw, x); err != nil {
				return err
			}
			var a, b float64
			for k, v := range x {
				a += float64(v) * float64(q[k])
				b += float64(v) * turned[k]
			}
			if r == i {
				a--
				gain = math.Abs(b)
			} else {
				other = worse(other, b)
			}
			own = worse(own, a)
		}
		switch {
		case !(own <= unitSlack):
			s.add("rot-file", name, "%s is no rotation: row %d times the others is %.3g away from that of the unit matrix", layout.GlobalRotation, i, own)
			return nil
		case stored && !(other <= unitSlack/5*max(gain, largestOf(turned))):
			s.add("rot-file", fmt.Sprintf("%s, %s", rotName, name), "the two are of different rotations: in the basis of %s row %d of rot.weight is not a multiple of a channel", name, i)
			return nil
		}
	}
	return nil
}

// worse is the larger magnitude; NaN stays.
func worse(most, v float64) float64 {
	if v != v || most != most {
		return math.NaN()
	}
	return max(most, math.Abs(v))
}

func largestOf(x []float64) (most float64) {
	for _, v := range x {
		most = max(most, math.Abs(v))
	}
	return most
}
