package mutate

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/safetensors"
)

// Mutation is one way to damage a checkpoint.
type Mutation struct {
	Name  string
	Real  string // who it happened to, or the rule it breaks
	Apply func(dir string) (applies bool, err error)
	// Words of which at least one must appear when the damage is named.
	Says []string
	// Values is true if every header stays as it was: only a comparison of
	// values with the source can see the damage.
	Values bool
}

const (
	body    = `^model\.(language_model\.)?layers\.`
	expert0 = body + `(\d+)\.mlp\.experts\.0\.`
)

// All lists the mutations.
func All() []Mutation {
	return []Mutation{
		{"gate and up swapped", "vllm#35031", tensors(swapModules(expert0+`gate_proj$`, "gate_proj", "up_proj")), []string{"experts.0", "experts"}, true},
		{"experts 0 and 1 swapped", "order of experts", tensors(swapExperts), []string{"experts.0", "experts"}, true},
		{"scale is its reciprocal", "division written as multiplication", tensors(onScales(reciprocal)), []string{"scale", "o_proj"}, true},
		{"scales in another order", "sglang#29038: scale layout", tensors(onScales(rotate)), []string{"o_proj", "down_proj"}, true},
		{"scale transposed", "scale layout", tensors(transposeScale), []string{"_proj"}, true},
		{"nibbles swapped", "packing order", tensors(nibbles), []string{"experts", "nibble"}, true},
		{"codes negated", "sign convention", tensors(negate), []string{"o_proj"}, true},
		{"scale for 240 instead of 448", "FP8 maximum of another format", tensors(fnuz), []string{"o_proj"}, true},
		{"NaN scale", "vllm#57532", tensors(onScales(nan)), []string{"scale", "o_proj"}, true},
		{"scale beyond BF16", "BF16 rule of the NPU", tensors(beyondBF16), []string{"o_proj", "BF16"}, true},
		{"scale_bias wrong", "layouts-ascend: 8 times the sum of codes", tensors(scaleBias), []string{"scale_bias", "experts"}, true},
		{"offset not zero", "symmetric scheme", tensors(offset), []string{"offset", "o_proj"}, true},
		{"router bias lost", "vllm-ascend: silent", tensors(dropAll(`e_score_correction_bias$`)), []string{"e_score_correction_bias"}, false},
		{"router bias cast to BF16", "dtype of the whole model", tensors(cast), []string{"e_score_correction_bias"}, false},
		{"router bias rounded to BF16", "cast and cast back", tensors(rounded), []string{"e_score_correction_bias"}, true},
		{"router quantised", "missing ignore rule", tensors(quantize(`mlp\.gate\.weight$`)), []string{"mlp.gate"}, false},
		{"MTP layer missing", "vllm#35548", tensors(dropMTP), []string{"MTP", "num_nextn"}, false},
		{"halves of eh_proj swapped", "order of embedding and hidden state", tensors(halves), []string{"eh_proj", "MTP"}, true},
		{"head is the embedding", "vllm#34385", tensors(alias), []string{"lm_head", "head"}, true},
		{"norm with one flipped bit", "copy gone wrong", tensors(flip), []string{"input_layernorm", "norm"}, true},
		{"ignore list under another prefix", "GLM-4.6V card", wrongPrefix, []string{"the config", "has no entry", "ignore", "prefix"}, false},
		{"config rotates all of a head", "partial_rotary_factor lost", func(dir string) (bool, error) {
			return EditJSON(dir, "config.json", func(m map[string]any) bool {
				_, ok := m["partial_rotary_factor"]
				m["partial_rotary_factor"] = 1.0
				return ok
			})
		}, []string{"partial_rotary_factor", "config"}, false},
		{"tail of a shard zeroed", "vllm-ascend#6980", zeroTail, []string{"bytes changed after the conversion"}, true},
		{"shard truncated", "download stopped", truncate, []string{"truncated", "ends at"}, false},
	}
}

func tensors(fn func(s Set) bool) func(string) (bool, error) {
	return func(dir string) (bool, error) {
		return Edit(dir, func(s Set) (bool, error) { return fn(s), nil })
	}
}

// find returns the first name that matches, or "".
func (s Set) find(pattern string) string {
	list := s.Names(regexp.MustCompile(pattern).MatchString)
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// modules lists the modules that have a stored weight.
func (s Set) modules(pattern string) (out []string) {
	re := regexp.MustCompile(pattern)
	for n := range s {
		for _, end := range []string{".weight", ".weight_packed"} {
			if m, ok := strings.CutSuffix(n, end); ok && re.MatchString(m) {
				out = append(out, m)
			}
		}
	}
	slices.Sort(out)
	return out
}

// exchange swaps the contents of two modules of equal form.
func (s Set) exchange(a, b string) bool {
	ma, mb := s.Module(a), s.Module(b)
	changed := false
	for part, x := range ma {
		y := mb[part]
		if y == nil || y.DType != x.DType || !slices.Equal(x.Shape, y.Shape) {
			return false
		}
		changed = changed || !slices.Equal(x.Data, y.Data)
		x.Data, y.Data = y.Data, x.Data
	}
	return changed
}

func swapModules(pattern, a, b string) func(Set) bool {
	return func(s Set) bool {
		list := s.modules(pattern)
		return len(list) > 0 && s.exchange(list[0], strings.TrimSuffix(list[0], a)+b)
	}
}

func swapExperts(s Set) bool {
	hit := false
	list := s.modules(expert0 + `(gate|up|down)_proj$`)
	for _, m := range list[:min(3, len(list))] {
		hit = s.exchange(m, strings.Replace(m, ".experts.0.", ".experts.1.", 1)) || hit
	}
	return hit
}

// onScales changes the scale of one attention output projection.
func onScales(fn func(t *Tensor) bool) func(Set) bool {
	return func(s Set) bool {
		n := s.find(body + `1\.self_attn\.o_proj\.weight_scale(_inv)?$`)
		if n == "" {
			n = s.find(expert0 + `down_proj\.weight_scale(_inv)?$`)
		}
		return n != "" && fn(s[n])
	}
}

func reciprocal(t *Tensor) bool {
	return t.each(func(v float64) float64 { return 1 / v })
}

func nan(t *Tensor) bool {
	i := 0
	return t.each(func(v float64) float64 {
		if i++; i == 2 {
			return math.NaN()
		}
		return v
	})
}

// rotate moves every scale on by one place.
func rotate(t *Tensor) bool {
	w := t.DType.Bits() / 8
	if len(t.Data) < 2*w {
		return false
	}
	old := slices.Clone(t.Data)
	copy(t.Data, old[w:])
	copy(t.Data[len(old)-w:], old[:w])
	return !slices.Equal(old, t.Data)
}

// transposeScale writes a scale matrix column by column under its old shape.
func transposeScale(s Set) bool {
	for _, n := range s.Names(regexp.MustCompile(body + `.*\.weight_scale(_inv)?$`).MatchString) {
		t := s[n]
		if len(t.Shape) != 2 || t.Shape[0] < 2 || t.Shape[1] < 2 {
			continue
		}
		w, rows, cols := t.DType.Bits()/8, int(t.Shape[0]), int(t.Shape[1])
		old := slices.Clone(t.Data)
		for r := range rows {
			for c := range cols {
				copy(t.Data[(c*rows+r)*w:], old[(r*cols+c)*w:(r*cols+c+1)*w])
			}
		}
		if !slices.Equal(old, t.Data) {
			return true
		}
	}
	return false
}

// nibbles swaps the halves of every byte of one packed weight, and leaves its
// scale_bias to the sums of the old order, which are the same.
func nibbles(s Set) bool {
	modules := s.modules(expert0 + `down_proj$`)
	if len(modules) == 0 {
		return false
	}
	parts := s.Module(modules[0])
	t := parts["weight_packed"]
	if t == nil && (parts["scale_bias"] != nil || parts["weight_scale_2"] != nil) {
		t = parts["weight"]
	}
	if t == nil {
		return false
	}
	for i, b := range t.Data {
		t.Data[i] = b<<4 | b>>4
	}
	return true
}

// negate changes the sign of every 8-bit code of one weight.
func negate(s Set) bool {
	n := s.find(body + `1\.self_attn\.o_proj\.weight$`)
	if n == "" {
		return false
	}
	switch t := s[n]; t.DType {
	case safetensors.I8:
		for i, b := range t.Data {
			t.Data[i] = -b
		}
	case safetensors.F8E4M3:
		for i := range t.Data {
			t.Data[i] ^= 0x80
		}
	default:
		return false
	}
	return true
}

// fnuz writes the scale of a converter that takes E4M3's maximum to be 240.
func fnuz(s Set) bool {
	n := s.find(body + `1\.self_attn\.o_proj\.weight$`)
	if n == "" || s[n].DType != safetensors.F8E4M3 {
		return false
	}
	return onScales(func(t *Tensor) bool { return t.each(func(v float64) float64 { return v * 448 / 240 }) })(s)
}

func beyondBF16(s Set) bool {
	n := s.find(body + `1\.self_attn\.o_proj\.weight_offset$`) // Ascend only
	if n == "" {
		return false
	}
	t := s[strings.TrimSuffix(n, "offset")+"scale"]
	return t != nil && t.DType == safetensors.F32 && t.each(func(v float64) float64 { return v * (1 + 1.0/1024) })
}

func scaleBias(s Set) bool {
	n := s.find(expert0 + `down_proj\.scale_bias$`)
	return n != "" && s[n].each(func(v float64) float64 { return v*1.01 + 0.01 })
}

func offset(s Set) bool {
	n := s.find(body + `1\.self_attn\.o_proj\.weight_offset$`)
	return n != "" && s[n].each(func(float64) float64 { return 1 })
}

func dropAll(pattern string) func(Set) bool {
	return func(s Set) bool {
		list := s.Names(regexp.MustCompile(pattern).MatchString)
		for _, n := range list {
			delete(s, n)
		}
		return len(list) > 0
	}
}

// special matches patterns for modules that no engine quantises anyway: a list
// that holds nothing else can be lost without harm.
var special = regexp.MustCompile(`(lm_head|embed_tokens|mlp\\?\.gate|eh_proj|head|norm|bias|indexers_proj|weights_proj|wk)\$?$`)

// wrongPrefix puts the names that config or description give under another
// prefix.
func wrongPrefix(dir string) (bool, error) {
	hit, err := EditJSON(dir, "quant_model_description.json", func(m map[string]any) bool {
		for k, v := range m {
			if strings.HasPrefix(k, "model.") {
				delete(m, k)
				m["language_model."+k] = v
			}
		}
		return true
	})
	if hit || err != nil {
		return hit, err
	}
	return EditJSON(dir, "config.json", func(m map[string]any) bool {
		q, _ := m["quantization_config"].(map[string]any)
		matters := false
		for _, key := range []string{"ignore", "modules_to_not_convert", "ignored_layers"} {
			list, _ := q[key].([]any)
			for i, x := range list {
				if name, ok := x.(string); ok {
					matters = matters || !special.MatchString(name)
					rest, re := strings.CutPrefix(name, "re:")
					name = "lm." + strings.TrimPrefix(rest, ".*")
					if re {
						name = "re:^lm\\." + strings.TrimPrefix(rest, ".*")
					}
					list[i] = name
				}
			}
		}
		return matters
	})
}

// lastShard is the weight file that comes last by name.
func lastShard(dir string) (string, error) {
	list, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil || len(list) == 0 {
		return "", err
	}
	slices.Sort(list)
	return list[len(list)-1], nil
}

func damageShard(dir string, fn func(raw []byte) []byte) (bool, error) {
	path, err := lastShard(dir)
	if err != nil || path == "" {
		return false, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	return true, swap(path, fn(raw))
}

func zeroTail(dir string) (bool, error) {
	return damageShard(dir, func(raw []byte) []byte { clear(raw[len(raw)-len(raw)/8:]); return raw })
}

func truncate(dir string) (bool, error) {
	return damageShard(dir, func(raw []byte) []byte { return raw[:len(raw)-100] })
}
