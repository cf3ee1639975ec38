package layout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// Ignored returns the entries by which a configuration of a format says what is
// not quantized, so that every engine of the format and its own library find
// it: those of compressed-tensors' ignore, fp8's modules_to_not_convert or ModelOpt's exclude_modules. Other
// formats have no such list.
func Ignored(f Format, d Decisions) []string {
	switch f {
	case CompressedTensors:
		return ignoreList(d)
	case HFFP8:
		return notConverted(d)
	case ModelOpt:
		return excluded(d)
	}
	return nil
}

// kind is a class of modules that one pattern covers: the suffix of its names
// as a Python regular expression that matches the names of the checkpoint
// (gate_proj) and those of the engines (gate_up_proj).
type kind struct {
	name    string
	of      func(glm.Role) bool
	pattern string
}

var kinds = []kind{
	{"dense", glm.Role.IsDense, `\.mlp\.(gate_up|gate|up|down)_proj$`},
	{"shared", glm.Role.IsShared, `\.mlp\.shared_experts\.(gate_up|gate|up|down)_proj$`},
	{"experts", glm.Role.IsExpert, `\.mlp\.experts\.\d+\.(gate|up|down)_proj$`},
	{"qkv", func(r glm.Role) bool { return r == glm.AttnQ || r == glm.AttnK || r == glm.AttnV }, `\.self_attn\.(qkv|q|k|v)_proj$`},
	{"o", func(r glm.Role) bool { return r == glm.AttnO }, `\.self_attn\.o_proj$`},
	{"qkv_a", func(r glm.Role) bool { return r == glm.AttnQA || r == glm.AttnKVA }, `\.self_attn\.(fused_qkv_a_proj(_with_mqa)?|q_a_proj|kv_a_proj_with_mqa)$`},
	{"q_b", func(r glm.Role) bool { return r == glm.AttnQB }, `\.self_attn\.q_b_proj$`},
	{"kv_b", func(r glm.Role) bool { return r == glm.AttnKVB }, `\.self_attn\.kv_b_proj$`},
	{"wq_b", func(r glm.Role) bool { return r == glm.IndexerQB }, `\.self_attn\.indexer\.wq_b$`},
}

// ignoreList returns the entries of a compressed-tensors ignore list: patterns
// that resolve alike in vLLM and SGLang, under the names of the checkpoint and
// of both runtimes, trunk and draft (docs/facts/engine-vllm.md 2.4, docs/facts/engine-sglang.md 2.2).
func ignoreList(d Decisions) []string {
	list := []string{"lm_head", `re:.*\.lm_head$`, `re:.*embed_tokens$`, `re:.*mlp\.gate$`, `re:.*eh_proj$`, `re:.*shared_head\.head$`, `re:.*layers\.\d+\.head$`}
	if d.Config.Vision != nil {
		list = append(list, `re:.*visual\..*`)
	}
	if d.Config.SparseAttention() {
		list = append(list, `re:.*indexer\.(wk|weights_proj|wk_weights_proj|k_norm)$`)
	}
	mtpFloat := mtpStaysFloat(d)
	if mtpFloat {
		for _, n := range mtpLayers(d) {
			list = append(list, fmt.Sprintf(`re:.*layers\.%d\..*`, n))
		}
		list = append(list, `re:model\.decoder\..*`)
	}
	for _, k := range kindsOf(&d) {
		list = append(list, k.entries(d, mtpFloat)...)
	}
	return list
}

// kindsOf lists the kinds, those of dense MLPs apart where they differ.
func kindsOf(d *Decisions) []kind {
	if !denseDiffers(*d) {
		return kinds
	}
	return append(slices.Clone(denseHalves), kinds[1:]...)
}

// layerPattern matches the layers of some numbers, ascending.
func layerPattern(numbers []int) string {
	parts := make([]string, len(numbers))
	for i, l := range numbers {
		parts[i] = strconv.Itoa(l)
	}
	if len(parts) == 1 {
		return `layers\.` + parts[0]
	}
	return `layers\.(` + strings.Join(parts, "|") + ")"
}

// denseHalves are the weights of a dense MLP that engines build apart.
var denseHalves = []kind{
	{"dense gate and up", func(r glm.Role) bool { return r == glm.DenseGate || r == glm.DenseUp }, `\.mlp\.(gate_up|gate|up)_proj$`},
	{"dense down", func(r glm.Role) bool { return r == glm.DenseDown }, `\.mlp\.down_proj$`},
}

// denseDiffers reports whether a dense MLP is quantized in part.
func denseDiffers(d Decisions) bool {
	layers := map[int]format.Weight{}
	for i := range d.Weights {
		w := d.Weights[i]
		if !w.Tensor.Role.IsDense() || w.Tensor.Param != "weight" {
			continue
		}
		if q, ok := layers[w.Tensor.Layer]; ok && q != w.Quant {
			return true
		}
		layers[w.Tensor.Layer] = w.Quant
	}
	return false
}

// mtpStaysFloat reports whether an MTP layer is there and none of it is
// quantised.
func mtpStaysFloat(d Decisions) bool {
	there := false
	for _, w := range d.Weights {
		if w.Tensor.MTP && w.Tensor.Role.IsLinear() {
			there = true
			if w.Quantized() {
				return false
			}
		}
	}
	return there
}

// entries returns the patterns for the layers in which the kind stays
// unquantised: one for all, or the layers by number.
func (k kind) entries(d Decisions, mtpFloat bool) []string {
	float, quantized, draft := map[int]bool{}, false, false
	for _, w := range d.Weights {
		if !k.of(w.Tensor.Role) || w.Tensor.Param != "weight" || mtpFloat && w.Tensor.MTP {
			continue
		}
		if w.Quantized() {
			quantized = true
		} else {
			float[w.Tensor.Layer] = true
			draft = draft || w.Tensor.MTP
		}
	}
	switch {
	case len(float) == 0:
		return nil
	case !quantized:
		return []string{"re:.*" + k.pattern}
	}
	var numbers []int
	for l := range float {
		numbers = append(numbers, l)
	}
	slices.Sort(numbers)
	out := layerPattern(numbers)
	if draft {
		out = "(" + out + "|decoder)" // SGLang calls the draft layer model.decoder
	}
	return []string{"re:.*" + out + k.pattern}
}
