package origin

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// glue are the tensors that only an MTP layer has.
var glue = []string{"eh_proj.weight", "enorm.weight", "hnorm.weight"}

// WaysWithoutMTP are what the user of a checkpoint without its MTP layer can do.
func WaysWithoutMTP(dir string) string {
	return "three ways out: convert the model without it; glmconv repair " + dir +
		" takes it from the release that was tuned; num_nextn_predict_layers 0 in config.json says that there is none"
}

// layers compares num_hidden_layers and the MTP layer with what is stored.
func (f *finder) layers() {
	c := f.Config
	stored, withGlue := f.storedLayers()
	switch {
	case len(stored) == 0:
		return
	case f.countedMTP(withGlue):
		return
	case len(withGlue) > 0 && withGlue[0] > c.Layers:
		f.add(LayerCount, true, "config.json: num_hidden_layers", "set num_hidden_layers to "+strconv.Itoa(withGlue[0])+" and adapt mlp_layer_types if it is there",
			"it says %d, and the MTP layer is stored as layer %d: there are %d decoder layers", c.Layers, withGlue[0], withGlue[0])
		return
	case len(withGlue) == 0 && f.damaged(): // what is lost may be the MTP layer
	case len(withGlue) == 0 && stored[len(stored)-1] >= c.Layers:
		n := stored[len(stored)-1] + 1
		f.add(LayerCount, true, "config.json: num_hidden_layers", "set num_hidden_layers to "+strconv.Itoa(n)+", or delete the further layers from the files",
			"it says %d, and decoder layers 0 to %d are stored", c.Layers, n-1)
		return
	case f.cut(stored):
		f.add(LayerCount, true, "config.json: num_hidden_layers", "set num_hidden_layers to "+strconv.Itoa(len(stored))+" if the model is to be as deep as that, or fetch the folder again",
			"it says %d, and decoder layers 0 to %d are stored: layers were cut, or config.json is of a deeper model", c.Layers, len(stored)-1)
		return
	case c.MTPLayers > 0 && len(withGlue) == 0 && stored[len(stored)-1] == c.Layers-1:
		f.add(MTPAbsent, false, "config.json: num_nextn_predict_layers", WaysWithoutMTP(f.Dir),
			"it says %d, and no tensor of the MTP layer (layer %d) is stored: fine-tunes saved by transformers lose it, nothing is missing of the download", c.MTPLayers, c.Layers)
	}
	f.mtpLayers(withGlue)
	f.experts()
}

// cut reports whether the last layers are not stored, and everything else is:
// those before them, the final norm, and every file that the index names.
func (f *finder) cut(stored []int) bool {
	n := len(stored)
	return n < f.Config.Layers && stored[n-1] == n-1 && slices.ContainsFunc(f.Tensors, func(t safetensors.Info) bool {
		return strings.HasSuffix(t.Name, "model.norm.weight") || strings.HasSuffix(t.Name, "language_model.norm.weight")
	})
}

// countedMTP finds an MTP layer that num_hidden_layers counts.
func (f *finder) countedMTP(withGlue []int) bool {
	c := f.Config
	if len(withGlue) == 0 || withGlue[0] >= c.Layers {
		return false
	}
	n := withGlue[0]
	f.add(LayerCount, true, "config.json: num_hidden_layers", "set num_hidden_layers to "+strconv.Itoa(n)+" and num_nextn_predict_layers to "+strconv.Itoa(len(withGlue)),
		"it says %d and counts the MTP layer: layer %d holds eh_proj, enorm and hnorm. Engines would run it as a decoder layer, or refuse it", c.Layers, n)
	return true
}

// storedLayers returns the numbers of the layers of which something is stored,
// and of those that have what only MTP layers have.
func (f *finder) storedLayers() (stored, withGlue []int) {
	all, mtp := map[int]bool{}, map[int]bool{}
	for _, t := range f.Tensors {
		n, below, ok := f.layerOf(t.Name)
		if !ok {
			continue
		}
		all[n] = true
		if slices.Contains(glue, below) {
			mtp[n] = true
		}
	}
	return ascending(all), ascending(mtp)
}

func ascending(set map[int]bool) []int {
	out := make([]int, 0, len(set))
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// experts compares the rows of the routers with n_routed_experts.
func (f *finder) experts() {
	c := f.Config
	trunk, mtp := map[int64]int{}, map[int64]int{}
	where := ""
	for _, t := range f.Tensors {
		layer, ok := f.routerLayer(t.Name)
		if !ok || len(t.Shape) != 2 {
			continue
		}
		if layer >= c.Layers {
			mtp[t.Shape[0]]++
			where = t.Name
		} else {
			trunk[t.Shape[0]]++
		}
	}
	want := int64(c.Experts)
	switch {
	case len(trunk) == 1 && trunk[want] == 0:
		for n := range trunk {
			f.add(ExpertCount, true, "config.json: n_routed_experts", "set it to "+strconv.FormatInt(n, 10),
				"it says %d, and the routers of all layers have %d rows: experts were pruned or merged without a word in config.json", want, n)
		}
	case len(trunk) > 1:
		f.add(ExpertCount, true, "config.json: n_routed_experts", "prune all layers to one number of experts",
			"it says %d, and the routers differ: %s; no engine loads layers with different numbers of experts", want, counts(trunk))
	case len(mtp) > 0 && mtp[want] == 0:
		for n := range mtp {
			f.add(MTPShape, true, where, "convert without the layer, or prune it as the others were",
				"the router of MTP layer %d has %d rows, config.json says %d experts: the model was pruned and its MTP layer was not", c.Layers, n, want)
		}
	}
}

func counts(m map[int64]int) string {
	var keys []int64
	for n := range m {
		keys = append(keys, n)
	}
	slices.Sort(keys)
	var parts []string
	for _, n := range keys {
		parts = append(parts, plural(m[n], "layer")+" with "+strconv.FormatInt(n, 10))
	}
	return strings.Join(parts, ", ")
}

// routerLayer returns the layer of a router's weight.
func (f *finder) routerLayer(name string) (int, bool) {
	n, below, ok := f.layerOf(name)
	return n, ok && below == "mlp.gate.weight"
}

// vocabulary compares vocab_size, embedding, head and the MTP layer's copies.
func (f *finder) vocabulary() {
	c := f.Config
	shape := map[string][]int64{}
	embed, head := c.EmbeddingName(), c.HeadName()
	mtpEmbed, mtpHead := c.MTPNames(c.Layers)
	for _, t := range f.Tensors {
		if slices.Contains([]string{embed, head, mtpEmbed, mtpHead}, t.Name) && len(t.Shape) == 2 {
			shape[t.Name] = t.Shape
		}
	}
	e, ok := shape[embed]
	if !ok {
		return
	}
	if h, ok := shape[head]; ok && h[0] != e[0] {
		f.add(Vocabulary, true, head, "resize both (transformers: resize_token_embeddings) and save again",
			"it has %d rows, the embedding %d: one of them was resized", h[0], e[0])
		return
	}
	if e[0] != int64(c.VocabSize) {
		f.add(Vocabulary, true, "config.json: vocab_size", "set vocab_size to "+strconv.FormatInt(e[0], 10)+" if the tokenizer has as many entries",
			"it says %d, the embedding has %d rows: the vocabulary was resized and config.json was not", c.VocabSize, e[0])
	}
	for _, n := range []string{mtpEmbed, mtpHead} {
		if s, ok := shape[n]; ok && s[0] != e[0] && s[1] == e[1] {
			f.add(StaleCopies, true, n, "glmconv mtp-remap "+f.Dir+" renews the copies; or convert without the MTP layer",
				"the MTP layer's copy has %d rows, the model's own %d: the vocabulary was resized and the copy is stale", s[0], e[0])
		}
	}
}

// config looks for words of config.json that the tensors belie.
func (f *finder) config() {
	if scales, ok := f.allFloat(); ok && !f.damaged() {
		if len(scales) == 0 {
			f.stale()
		} else {
			f.leftScales(scales)
		}
	}
	f.rope()
}

// stale finds declarations of a quantization that no tensor has.
func (f *finder) stale() {
	const kept = "it is stale: it %s, and no tensor is quantised (all %d are BF16, F16 or F32). Weights that were dequantised keep it by mistake"
	if beside := f.Config.QuantizationFile; beside != "" {
		f.add(StaleConfig, true, beside, "delete it; glmconv repair "+f.Dir+" does", kept, f.saysMethod(), len(f.Tensors))
	} else if f.Config.Quantization != "" {
		f.add(StaleConfig, true, "config.json: "+f.Config.QuantizationKey, "glmconv repair "+f.Dir+" removes it; so does an editor",
			kept, f.saysMethod(), len(f.Tensors))
	}
	if f.Dir == "" {
		return
	}
	raw, err := fsx.ReadIn(f.Dir, descriptionFile, fsx.MaxText)
	var desc map[string]any
	if err != nil || json.Unmarshal(raw, &desc) != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(desc)) {
		if scheme, ok := desc[name].(string); ok && strings.HasSuffix(name, ".weight") && scheme != "FLOAT" {
			f.add(StaleConfig, true, descriptionFile, "delete it; glmconv repair "+f.Dir+" does", kept, "says "+name+" "+scheme, len(f.Tensors))
			return
		}
	}
}

// descriptionFile is where Ascend folders declare their quantization.
const descriptionFile = "quant_model_description.json"

// saysMethod is what the declaration says of itself.
func (f *finder) saysMethod() string {
	if f.Config.Quantization == "unknown" {
		return "names no quant_method"
	}
	return "says quant_method " + f.Config.Quantization
}

// leftScales says that weights in full precision have scales beside them. They
// were dequantised and their scales kept, or codes were cast to full precision:
// headers do not tell which.
func (f *finder) leftScales(scales []string) {
	const left = "%s of a quantised release (%s) beside weights in full precision, and no tensor holds codes%s. Weights that were dequantised keep no scales; codes that were cast are not the weights without them"
	const way = "take the release's own files; or, if the weights were dequantised, take the scales out of the files"
	declared := ""
	switch c := f.Config; {
	case c.QuantizationFile != "":
		declared = ": " + c.QuantizationFile + " was left, too: it " + f.saysMethod()
	case c.Quantization != "":
		declared = ": config.json's " + c.QuantizationKey + " was left, too: it " + f.saysMethod()
	}
	more := way
	if declared != "" {
		more += " and the declaration away"
	}
	f.add(LeftScales, declared != "", scales[0], more, left, plural(len(scales), "scale"), paramOf(scales[0]), declared)
}

// paramOf is the last part of a tensor's name.
func paramOf(name string) string {
	_, param := glm.ModuleOf(name)
	return param
}

// leftEnds are the ends of names of scales that a weight of the same module has.
var leftEnds = []string{"weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale", "input_scale", "scales"}

// allFloat tells whether every tensor is full precision, and returns the scales
// among them that belong to weights.
func (f *finder) allFloat() (scales []string, ok bool) {
	weights := map[string]bool{}
	for _, t := range f.Tensors {
		switch t.DType {
		case safetensors.BF16, safetensors.F16, safetensors.F32:
		default:
			return nil, false
		}
		module, param := glm.ModuleOf(t.Name)
		switch {
		case param == "weight":
			weights[module] = true
		case slices.Contains(leftEnds, param):
			scales = append(scales, t.Name)
		case strings.Contains(param, "packed"):
			return nil, false
		}
	}
	scales = slices.DeleteFunc(scales, func(name string) bool {
		module, _ := glm.ModuleOf(name)
		return !weights[module]
	})
	return scales, len(f.Tensors) > 0
}

// rope notices two values of one number of the rotary embedding. Engines differ
// in which they read.
func (f *finder) rope() {
	keys := f.text()
	for _, key := range []string{"rope_theta", "partial_rotary_factor"} {
		f.twice(keys, key)
	}
}

// text is the object of config.json in which the text model's keys stand.
func (f *finder) text() map[string]json.RawMessage {
	if raw, ok := f.Keys["text_config"]; ok {
		var text map[string]json.RawMessage
		if json.Unmarshal(raw, &text) == nil {
			return text
		}
	}
	return f.Keys
}

// twice notices a number that stands at top level and among the parameters of
// the rotary embedding, with two values.
func (f *finder) twice(keys map[string]json.RawMessage, key string) {
	type place struct {
		where string
		value float64
	}
	var found []place
	look := func(where string, m map[string]json.RawMessage) {
		var v *float64
		if json.Unmarshal(m[key], &v) == nil && v != nil {
			found = append(found, place{where, *v})
		}
	}
	look("at top level", keys)
	for _, k := range []string{"rope_parameters", "rope_scaling"} {
		var m map[string]json.RawMessage
		if json.Unmarshal(keys[k], &m) == nil {
			look("in "+k, m)
		}
	}
	for _, p := range found[min(1, len(found)):] {
		if p.value != found[0].value {
			f.add(TwoRopeBases, false, "config.json: "+key, "make the two equal; the model card or the base model's config.json says which is right",
				"it is %g %s and %g %s: transformers 5 and glmconv read rope_parameters, older libraries and engines the top level, and the two values give two models",
				found[0].value, found[0].where, p.value, p.where)
			return
		}
	}
}
