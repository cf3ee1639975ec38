package check

import (
	"context"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/safetensors"
)

// look is what one pass over the bytes of a weight finds.
type look struct {
	bad      tally // NaN, infinities, codes out of range
	zero     int64 // bytes in pages of zeros
	first    float32
	constant bool // every value is the first
	vals     []float32
	top      int // the largest magnitude of int8 codes, for weights that are declared so
}

// weights reads a whole weight: NaN, infinities, int4 codes out of range,
// zeros where weights should be, norms of one value.
func (s *subject) weights(ctx context.Context, m *module, t safetensors.Info) ([]Finding, error) {
	l := look{constant: true}
	float := isFloat(t.DType)
	if float {
		l.vals = make([]float32, min(chunk, t.Size)/int64(t.DType.Bits()/8))
	}
	var derr error
	codes, eight := newEnds(m), t.DType == safetensors.I8 && s.declaredEight(m)
	err := s.each(ctx, t, func(p []byte, off int64) {
		l.zero += origin.ZeroBytes(p)
		if codes != nil {
			codes.add(p, off)
		}
		switch {
		case float:
			width := int64(t.DType.Bits() / 8)
			v := l.vals[:int64(len(p))/width]
			if derr = decodeFloats(v, p, t.DType); derr == nil {
				l.floats(v, off/width)
			}
		case t.DType == safetensors.F8E4M3:
			l.bytes(p, off, func(c byte) bool { return c&0x7f == 0x7f })
		case eight:
			l.widest(p)
		case m.form.kind == int4Bytes:
			l.bytes(p, off, func(c byte) bool { return int8(c) < -8 || int8(c) > 7 })
		}
	})
	if err == nil {
		err = derr
	}
	if err != nil {
		return nil, err
	}
	out := l.findings(m, t, float, s.ascend)
	if codes == nil || len(out) > 0 {
		return out, nil
	}
	return codes.findings(ctx, s)
}

func (l *look) floats(v []float32, at int64) {
	if at == 0 && len(v) > 0 {
		l.first = v[0]
	}
	for i, x := range v {
		if x != x || math.IsInf(float64(x), 0) {
			l.bad.note(at+int64(i), x)
		}
		l.constant = l.constant && x == l.first
	}
}

// widest keeps the largest code; -8 counts as 7, the other end of 4 bits.
func (l *look) widest(p []byte) {
	for _, c := range p {
		v := int(int8(c))
		l.top = max(l.top, v, ^v)
	}
}

func (l *look) bytes(p []byte, at int64, bad func(c byte) bool) {
	for i, c := range p {
		if bad(c) {
			l.bad.note(at+int64(i), float32(int8(c)))
		}
	}
}

func (l *look) findings(m *module, t safetensors.Info, float, folded bool) (out []Finding) {
	if l.bad.n > 0 {
		code := "weight-nonfinite"
		if !float && t.DType != safetensors.F8E4M3 {
			code = "code-range"
		}
		out = append(out, found(code, t.Name, describe(l.bad, t)))
	}
	if l.top > 0 && l.top <= 7 && t.Elements() >= bitsProbe {
		out = append(out, found("weight-encoding", m.row.Module, sprintf("it is declared with 8 bits, and none of its %d codes is outside of -8..7: they are of 4 bits", t.Elements())))
	}
	switch whole, region := origin.Zeros(&m.row, l.zero, t.Size, !float); {
	case whole:
		out = append(out, found("weight-zero", t.Name, origin.SayZeros(l.zero, t.Size)+" in "+t.File))
	case region:
		out = append(out, found("zero-region", t.Name, origin.SayZeros(l.zero, t.Size)+" ("+t.File+")"))
	case l.constant && l.first != 0 && float && len(t.Shape) > 1 && t.Elements() >= 64:
		out = append(out, found("weight-constant", t.Name, sprintf("all %d values are %g (%s)", t.Elements(), l.first, t.File)))
	case float && l.constant && isNorm(m.row.Role) && t.Elements() >= 16 && !(folded && l.first == 1):
		out = append(out, found("norm-constant", t.Name, sprintf("all %d values are %g, as before training", t.Elements(), l.first)))
	}
	return out
}

func isNorm(r glm.Role) bool {
	switch r {
	case glm.FinalNorm, glm.LayerNorm, glm.QKNorm, glm.LatentNorm, glm.IndexerKNorm, glm.MTPNorm, glm.VisionNorm:
		return true
	}
	return false
}
