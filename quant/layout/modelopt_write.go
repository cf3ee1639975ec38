package layout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Writing NVFP4 in ModelOpt's form (docs/facts/formats.md 4).

// modelOptVersion is the ModelOpt release whose rules are implemented. vLLM
// knows the files by the producer's name.
const modelOptVersion = "0.47.0"

// modelOptFile is the file beside config.json that repeats the declaration.
const modelOptFile = "hf_quant_config.json"

func (modelOpt) Reference() string       { return "ModelOpt rounds" }
func (modelOpt) schemes() []Scheme       { return []Scheme{NVFP4, NVFP4A16} }
func (modelOpt) misfit(w *Weight) string { return microMisfit(w) }
func (modelOpt) label(w *Weight) string  { return microLabel(w) }
func (modelOpt) ConfigFiles() []string   { return []string{modelOptFile} }
func (modelOpt) Numeric(w Weight, a Arith) (s numeric.Spec) {
	s = numericOf(w.Quant, numeric.NVFP4, a)
	s.Global, s.Times = w.Global, true
	return s
}

func (modelOpt) choose(_ *glm.Config, t *glm.Tensor, o *Options) (choice, string) {
	return microChoice(t, o)
}

func (modelOpt) possible(_ *glm.Config, o *Options) error {
	if o.Rest == RestFP8 {
		return &ImpossibleError{What: "rest fp8 as " + string(ModelOpt), Rule: "a file of ModelOpt has one algorithm for all that it does not exclude",
			Nearest: "rest bf16 or same; or rest fp8 as " + string(CompressedTensors)}
	}
	return nil
}

func (modelOpt) Outputs(w Weight) []safetensors.Spec {
	if !w.Quantized() {
		return floatOutput(&w)
	}
	rows, cols := w.Dims()
	sr, sc := w.Quant.ScaleShape(rows, cols)
	p := w.Tensor.Module
	out := []safetensors.Spec{spec(p, "weight", safetensors.U8, int64(rows), int64(cols/2)),
		spec(p, "weight_scale", safetensors.F8E4M3, int64(sr), int64(sc)), {Name: p + ".weight_scale_2", DType: safetensors.F32, Shape: []int64{}}}
	if w.Act.When == format.Local {
		out = append(out, safetensors.Spec{Name: p + ".input_scale", DType: safetensors.F32, Shape: []int64{}})
	}
	return out
}

func (modelOpt) AppendTile(w Weight, row0 int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	if len(out) < 3 {
		return nil, fmt.Errorf("layout: %s: %d output buffers", w.Tensor.Name, len(out))
	}
	out[0] = appendCodes(out[0], m.Codes)
	out[1] = append(out[1], m.ScaleCodes...)
	if row0 > 0 {
		return out, nil
	}
	out[2] = numeric.AppendF32(out[2], []float32{m.Global})
	if len(out) > 3 {
		out[3] = numeric.AppendF32(out[3], []float32{numeric.TimesNVFP4(w.InputMax)})
	}
	return out, nil
}

// modelOptArgs are what ModelOpt says of the weights or inputs of a group.
type modelOptArgs struct {
	Dynamic bool   `json:"dynamic"`
	Bits    int    `json:"num_bits"`
	Type    string `json:"type"`
	Group   int    `json:"group_size"`
}

// modelOptGroup is its group of all linears.
type modelOptGroup struct {
	Inputs  *modelOptArgs `json:"input_activations"`
	Weights *modelOptArgs `json:"weights"`
	Targets []string      `json:"targets"`
}

// producer names the tool whose form a file has.
type producer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Config writes both forms that ModelOpt writes (docs/facts/formats.md 4.1).
func (modelOpt) Config(d Decisions) (map[string][]byte, error) {
	by := producer{"modelopt", modelOptVersion}
	args := &modelOptArgs{Bits: 4, Type: "float", Group: format.NVFP4.Group}
	group, algo := modelOptGroup{Inputs: args, Weights: args, Targets: []string{"Linear"}}, "NVFP4"
	if d.Scheme == NVFP4A16 {
		group.Inputs, algo = nil, "W4A16_NVFP4"
	}
	list := excluded(d)
	files, err := withQuantization(d, struct {
		Groups   map[string]modelOptGroup `json:"config_groups"`
		Ignore   []string                 `json:"ignore"`
		Algo     string                   `json:"quant_algo"`
		Producer producer                 `json:"producer"`
		Method   string                   `json:"quant_method"`
	}{map[string]modelOptGroup{"group_0": group}, list, algo, by, "modelopt"})
	if err != nil {
		return nil, err
	}
	type quantization struct {
		Algo    string   `json:"quant_algo"`
		Cache   *string  `json:"kv_cache_quant_algo"`
		Group   int      `json:"group_size"`
		Exclude []string `json:"exclude_modules"`
	}
	files[modelOptFile], err = marshal(struct {
		Producer producer     `json:"producer"`
		Q        quantization `json:"quantization"`
	}{by, quantization{Algo: algo, Group: format.NVFP4.Group, Exclude: list}})
	return files, err
}

// branch is a part of a layer that is excluded as a whole where nothing of it
// is quantized.
type branch struct {
	prefix string   // "model.layers.3.self_attn"
	floats []string // modules that are not quantized
	codes  bool     // others are
}

// excluded returns the entries of exclude_modules: whole branches of layers as
// NVIDIA's files have them, and the names of what else is not quantized. They
// mean the same in vLLM, which also takes an entry for a part of a name, and in
// SGLang, which also compares it with every dotted part
// (docs/facts/formats.md 4.4): no entry is a plain parent of others, and none
// ends in a star after a number.
func excluded(d Decisions) []string {
	var list []string
	branches := map[int][]*branch{}
	var layers []int
	routers := false
	for i := range d.Weights {
		w := d.Weights[i]
		t := w.Tensor
		switch {
		case t.Param != "weight" || len(t.Shape) != 2 || t.Role == glm.Unknown || t.Role.IsVision():
			continue
		case t.Role == glm.Router: // by one entry for all: a name ends like that of gate_proj begins
			routers = true
			continue
		case t.Layer < 0:
			if !w.Quantized() {
				list = append(list, t.Module)
			}
			continue
		}
		if branches[t.Layer] == nil {
			layers = append(layers, t.Layer)
		}
		branches[t.Layer] = put(branches[t.Layer], branchOf(d.Config.LayerPrefix(t.Layer), t), w)
	}
	slices.Sort(layers)
	for _, l := range layers {
		list = append(list, excludedOf(d.Config.LayerPrefix(l), branches[l])...)
	}
	if routers {
		list = append(list, strings.TrimSuffix(d.Config.LayerPrefix(0), "0.")+"*.mlp.gate")
	}
	if mtp := mtpLayers(d); len(mtp) > 0 {
		for _, l := range mtp { // vLLM's name of the draft's head, which it builds whether or not a copy is stored
			layer := d.Config.LayerPrefix(l)
			if !slices.Contains(list, layer+"*") && !slices.Contains(list, layer+"head") {
				list = append(list, layer+"head")
			}
		}
		list = append(list, "model.shared_head.head") // SGLang's
	}
	if d.Config.NestedText() { // SGLang's names
		for _, e := range slices.Clone(list) {
			if rest, ok := strings.CutPrefix(e, "model.language_model."); ok {
				list = append(list, "language_model."+rest)
			}
		}
	}
	if d.Config.Vision != nil {
		list = append(list, "model.visual*", "visual*")
	}
	return list
}

// branchOf names the branch of a layer that a tensor belongs to.
func branchOf(layer string, t *glm.Tensor) string {
	rest := strings.TrimPrefix(t.Module, layer)
	for _, b := range []string{"self_attn", "mlp.shared_experts", "mlp.experts", "mlp"} {
		if strings.HasPrefix(rest, b+".") {
			return layer + b
		}
	}
	return t.Module
}

// put notes a weight in its branch.
func put(list []*branch, prefix string, w *Weight) []*branch {
	i := slices.IndexFunc(list, func(b *branch) bool { return b.prefix == prefix })
	if i < 0 {
		i, list = len(list), append(list, &branch{prefix: prefix})
	}
	if b := list[i]; w.Quantized() {
		b.codes = true
	} else {
		b.floats = append(b.floats, w.Tensor.Module)
	}
	return list
}

// excludedOf are the entries of one layer.
func excludedOf(layer string, list []*branch) (out []string) {
	if !slices.ContainsFunc(list, func(b *branch) bool { return b.codes }) {
		return []string{layer + "*"}
	}
	for _, b := range list {
		switch {
		case len(b.floats) == 0:
		case b.codes, b.prefix == b.floats[0]:
			out = append(out, b.floats...)
			if head := layer + "shared_head.head"; b.prefix == head {
				out = append(out, layer+"head") // vLLM's name
			}
		default:
			out = append(out, b.prefix+"*")
		}
	}
	return out
}
