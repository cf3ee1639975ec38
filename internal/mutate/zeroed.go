package mutate

import (
	"regexp"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// ofValues are faults of values that no training leaves.
func ofValues() []Fault {
	in := func(name, says string, fn func(s Set) bool) Fault {
		return Fault{Name: name, Apply: onSet(fn), Says: []string{says}}
	}
	one := func(pattern string, fn func(t *Tensor) bool) func(Set) bool {
		return func(s Set) bool {
			n := s.find(pattern)
			return n != "" && fn(s[n])
		}
	}
	zeros := func(t *Tensor) bool { clear(t.Data); return true }
	const weight = `\.weight(_packed)?$`
	hole := func(from, to float64) func(t *Tensor) bool {
		return func(t *Tensor) bool {
			n := float64(len(t.Data))
			clear(t.Data[int(from*n)&^15 : int(to*n)&^15])
			return true
		}
	}
	constant := func(v float64) func(t *Tensor) bool {
		return func(t *Tensor) bool { return t.each(func(float64) float64 { return v }) }
	}
	return []Fault{
		in("codes of a matrix all zero", "o_proj", one(body+`1\.self_attn\.o_proj`+weight, zeros)),
		in("codes of an expert all zero", "experts.2.up_proj", one(body+`1\.mlp\.experts\.2\.up_proj`+weight, zeros)),
		in("a matrix in full precision all zero", "mlp.gate", one(body+`1\.mlp\.gate\.weight$`, zeros)),
		in("the head all zero", "lm_head", one(`^lm_head\.weight$`, zeros)),
		in("a norm all zero", "input_layernorm", one(body+`1\.input_layernorm\.weight$`, zeros)),
		in("a norm of ones", "post_attention_layernorm", one(body+`1\.post_attention_layernorm\.weight$`, constant(1))),
		in("the final norm of ones", "norm", one(`^model\.(language_model\.)?norm\.weight$`, constant(1))),
		in("a router bias of zeros", "e_score_correction_bias", one(`e_score_correction_bias$`, zeros)),
		in("the second half of a matrix zero", "o_proj", one(body+`1\.self_attn\.o_proj`+weight, hole(0.5, 1))),
		in("a hole in a matrix", "o_proj", one(body+`1\.self_attn\.o_proj`+weight, hole(0.3, 0.6))),
		in("a hole in an expert", "experts.1.down_proj", one(body+`1\.mlp\.experts\.1\.down_proj`+weight, hole(0.4, 0.8))),
		in("a hole in the embedding", "embed_tokens", one(`^model\.(language_model\.)?embed_tokens\.weight$`, hole(0.2, 0.5))),
		in("a hole in the head", "lm_head", one(`^lm_head\.weight$`, hole(0.5, 0.9))),
		in("a hole in eh_proj", "eh_proj", one(`eh_proj`+weight, hole(0.5, 0.9))),
		in("scales all zero", "o_proj", one(body+`1\.self_attn\.o_proj\.weight_scale(_inv)?$`, zeros)),
		in("a scale zero", "o_proj", one(body+`1\.self_attn\.o_proj\.weight_scale(_inv)?$`, func(t *Tensor) bool { clear(t.Data[:t.DType.Bits()/8]); return true })),
		in("scales doubled", "o_proj", one(body+`1\.self_attn\.o_proj\.weight_scale(_inv)?$`, func(t *Tensor) bool { return t.each(func(v float64) float64 { return 2 * v }) })),
		in("scales of one row's for all", "o_proj", one(body+`1\.self_attn\.o_proj\.weight_scale(_inv)?$`, func(t *Tensor) bool {
			first, seen := 0.0, false
			return t.each(func(v float64) float64 {
				if !seen {
					first, seen = v, true
				}
				return first
			})
		})),
		in("a pattern of one byte", "o_proj", one(body+`1\.self_attn\.o_proj`+weight, func(t *Tensor) bool {
			for i := range t.Data {
				t.Data[i] = 0x11
			}
			return true
		})),
		in("an infinite value", "input_layernorm", one(body+`1\.input_layernorm\.weight$`, func(t *Tensor) bool {
			i := 0
			return t.each(func(v float64) float64 {
				if i++; i == 3 {
					return v / 0.0000000000000000000000000000000000000000000001 * 1e300
				}
				return v
			})
		})),
		in("rows exchanged within a matrix", "o_proj", func(s Set) bool {
			hit := false
			for _, n := range s.Names(regexp.MustCompile(body + `1\.self_attn\.o_proj\.weight`).MatchString) {
				t := s[n]
				if len(t.Shape) != 2 || t.Shape[0] < 8 || strings.HasSuffix(n, "_shape") || t.DType == safetensors.I64 {
					continue
				}
				w := len(t.Data) / int(t.Shape[0])
				for i := range w {
					t.Data[i], t.Data[5*w+i] = t.Data[5*w+i], t.Data[i]
				}
				hit = hit || !strings.Contains(n, "scale")
			}
			return hit
		}),
	}
}
