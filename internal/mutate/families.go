package mutate

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// OfFamilies lists the mutations of the families with latent attention, a
// sparse indexer or a vision tower (docs/facts/families.md 13).
func OfFamilies() []Mutation {
	return []Mutation{
		{"indexer keys in the other rotary order", "transformers#42690: pairs 2j, 2j+1 read as j, j + d/2",
			withConfig(func(s Set, c *glm.Config) bool { return rows(s, `\.indexer\.(wk|k_norm)$`, halfSplit(c.QKRopeHeadDim)) }), []string{"indexer"}, true},
		{"k_norm as RMSNorm", "a LayerNorm taken for an RMSNorm: its offset is lost", tensors(onTensors(`\.indexer\.k_norm\.bias$`, func(float64) float64 { return 0 })), []string{"k_norm"}, true},
		{"kv_b_proj all keys, then all values", "order of the parts of a head",
			withConfig(func(s Set, c *glm.Config) bool {
				return rows(s, `\.kv_b_proj$`, parts(c.Heads, c.QKNopeHeadDim, c.VHeadDim))
			}), []string{"kv_b_proj"}, true},
		{"q_b_proj rope before nope", "order of the parts of a head",
			withConfig(func(s Set, c *glm.Config) bool {
				return rows(s, `\.q_b_proj$`, turned(c.Heads, c.QKHeadDim(), c.QKNopeHeadDim))
			}), []string{"q_b_proj"}, true},
		{"patches in another order", "height and width of the patch convolution swapped", tensors(patchOrder), []string{"patch_embed"}, true},
		{"position table rounded", "a table of learned positions in fewer bits", tensors(onTensors(`visual\..*position_embedding\.weight$`, fewBits)), []string{"position_embedding"}, true},
		{"M-RoPE axes swapped", "mrope_section in another order", func(dir string) (bool, error) { return EditJSON(dir, "config.json", swapSections) }, []string{"mrope_section", "config"}, false},
	}
}

func withConfig(fn func(s Set, c *glm.Config) bool) func(string) (bool, error) {
	return func(dir string) (bool, error) {
		c, err := glm.LoadConfig(dir)
		if err != nil {
			return false, err
		}
		return Edit(dir, func(s Set) (bool, error) { return fn(s, c), nil })
	}
}

// onTensors changes every value of the float tensors that match.
func onTensors(pattern string, fn func(float64) float64) func(Set) bool {
	return func(s Set) bool {
		hit := false
		for _, n := range s.Names(regexp.MustCompile(pattern).MatchString) {
			hit = s[n].each(fn) || hit
		}
		return hit
	}
}

// rows puts row order[i] of every matching module in the place of row i, in
// weights and in scales that are stored by row. Other rows stay. It leaves
// modules alone whose scales span rows.
func rows(s Set, pattern string, order []int) bool {
	re, hit := regexp.MustCompile(pattern), false
	seen := map[string]bool{}
	for n := range s {
		module, _ := glm.ModuleOf(n)
		if seen[module] || !re.MatchString(module) {
			continue
		}
		seen[module] = true
		all := s.Module(module)
		byRow := func(t *Tensor) bool {
			w := all["weight"]
			if w == nil {
				w = all["weight_packed"]
			}
			return len(t.Shape) > 0 && w != nil && t.Shape[0] == w.Shape[0] && int(t.Shape[0]) >= len(order)
		}
		whole := true
		for part, t := range all {
			whole = whole && (byRow(t) || part == "weight_shape")
		}
		for part, t := range all {
			if !whole || part == "weight_shape" {
				continue
			}
			width, old := len(t.Data)/int(t.Shape[0]), slices.Clone(t.Data)
			for i, r := range order {
				copy(t.Data[i*width:][:width], old[r*width:])
			}
			hit = hit || !slices.Equal(old, t.Data)
		}
	}
	return hit
}

// halfSplit puts pairs (0, 1), (2, 3), … where a half-split rotation expects
// them: (0, d/2), (1, d/2 + 1), …
func halfSplit(d int) []int {
	order := make([]int, d)
	for i := range order {
		order[i/2+i%2*d/2] = i
	}
	return order
}

// parts puts the first a rows of every head before all the other rows.
func parts(heads, a, b int) (order []int) {
	for h := range heads {
		for i := range a {
			order = append(order, h*(a+b)+i)
		}
	}
	for h := range heads {
		for i := range b {
			order = append(order, h*(a+b)+a+i)
		}
	}
	return order
}

// turned rotates the d rows of every head by n.
func turned(heads, d, n int) (order []int) {
	for h := range heads {
		for i := range d {
			order = append(order, h*d+(i+n)%d)
		}
	}
	return order
}

// patchOrder swaps the last two axes of the patch convolution.
func patchOrder(s Set) bool {
	n := s.find(`visual\.patch_embed\.proj\.weight$`)
	if n == "" {
		return false
	}
	t := s[n]
	p := int(t.Shape[len(t.Shape)-1])
	if len(t.Shape) != 5 || int(t.Shape[3]) != p || t.DType != safetensors.BF16 {
		return false
	}
	old := slices.Clone(t.Data)
	for lo := 0; lo < len(old); lo += 2 * p * p {
		for y := range p {
			for x := range p {
				copy(t.Data[lo+2*(y*p+x):][:2], old[lo+2*(x*p+y):])
			}
		}
	}
	return !slices.Equal(old, t.Data)
}

// fewBits keeps three bits of the mantissa.
func fewBits(v float64) float64 {
	m, e := math.Frexp(v)
	return math.Ldexp(math.RoundToEven(m*16)/16, e)
}

// swapSections exchanges two different parts of mrope_section, wherever a config
// of transformers 4 or 5 keeps it.
func swapSections(m map[string]any) bool {
	for k, v := range m {
		if list, ok := v.([]any); ok && k == "mrope_section" && len(list) == 3 && list[0] != list[1] {
			list[0], list[1] = list[1], list[0]
			return true
		}
		if inner, ok := v.(map[string]any); ok && (strings.HasPrefix(k, "rope") || k == "text_config") && swapSections(inner) {
			return true
		}
	}
	return false
}
