package mutate

import (
	"math/rand/v2"
	"slices"

	"github.com/glmconv/glmconv/safetensors"
)

// ofCopies are faults of the copies that an MTP layer has of embedding and
// head.
func ofCopies() []Fault {
	var out []Fault
	for _, part := range []string{"embed_tokens.weight", "shared_head.head.weight"} {
		in := func(name string, fn func(t *Tensor) bool) {
			out = append(out, Fault{Name: part + ": " + name, Says: []string{part[:len(part)-len(".weight")]}, Apply: onSet(func(s Set) bool {
				t := s[s.mtpLayer()+part]
				if s.mtpLayer() == "" || t == nil || len(t.Shape) != 2 {
					return false
				}
				old := slices.Clone(t.Data)
				return fn(t) && !slices.Equal(old, t.Data)
			})})
		}
		width := func(t *Tensor) int { return len(t.Data) / int(t.Shape[0]) }
		in("two rows exchanged", func(t *Tensor) bool {
			w := width(t)
			row := slices.Clone(t.Data[3*w : 4*w])
			copy(t.Data[3*w:4*w], t.Data[9*w:10*w])
			copy(t.Data[9*w:], row)
			return true
		})
		in("a row of zeros", func(t *Tensor) bool { w := width(t); clear(t.Data[5*w : 6*w]); return true })
		in("the last row of zeros", func(t *Tensor) bool { clear(t.Data[len(t.Data)-width(t):]); return true })
		in("zeros", func(t *Tensor) bool { clear(t.Data); return true })
		in("one bit", func(t *Tensor) bool { t.Data[len(t.Data)/2] ^= 1; return true })
		in("noise", func(t *Tensor) bool {
			rng := rand.New(rand.NewPCG(1, 2))
			return t.each(func(v float64) float64 { return v * (1 + 0.02*rng.NormFloat64()) })
		})
		in("of another model", func(t *Tensor) bool {
			rng := rand.New(rand.NewPCG(3, 4))
			return t.each(func(float64) float64 { return 0.02 * rng.NormFloat64() })
		})
		in("rows moved by one", func(t *Tensor) bool {
			w := width(t)
			t.Data = append(slices.Clone(t.Data[w:]), t.Data[:w]...)
			return true
		})
		in("of a smaller vocabulary", func(t *Tensor) bool {
			t.Shape[0] -= 16
			t.Data = t.Data[:len(t.Data)-16*len(t.Data)/int(t.Shape[0]+16)]
			return true
		})
		in("of a larger vocabulary", func(t *Tensor) bool {
			t.Data = append(t.Data, t.Data[:16*width(t)]...)
			t.Shape[0] += 16
			return true
		})
	}
	return append(out, Fault{Name: "embedding where the head should be", Says: []string{"shared_head.head"}, Apply: onSet(func(s Set) bool {
		a, b := s[s.mtpLayer()+"embed_tokens.weight"], s[s.mtpLayer()+"shared_head.head.weight"]
		if s.mtpLayer() == "" || a == nil || b == nil || slices.Equal(a.Data, b.Data) || a.DType != safetensors.BF16 {
			return false
		}
		b.Data = slices.Clone(a.Data)
		return true
	})})
}
