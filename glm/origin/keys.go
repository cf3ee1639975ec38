package origin

import (
	"encoding/json"
	"strconv"
	"strings"
)

// keys finds switches and counts of config.json that tensors belie in one way
// throughout: which layers are dense, whether q and k have norms and biases, how
// many blocks the vision tower has.
func (f *finder) keys() {
	f.denseLayers()
	f.attentionParts()
	f.depth()
}

const takeKey = "set it to what the tensors say, or take the config.json that belongs to the weights"

// denseLayers compares the layers with a dense MLP with what config.json says.
func (f *finder) denseLayers() {
	c := f.Config
	dense, routed := make([]bool, c.Layers), make([]bool, c.Layers)
	for _, t := range f.Tensors {
		n, below, ok := f.layerOf(t.Name)
		switch {
		case !ok || n >= c.Layers:
		case strings.HasPrefix(below, "mlp.gate."), strings.HasPrefix(below, "mlp.experts."):
			routed[n] = true
		case strings.HasPrefix(below, "mlp.gate_proj."), strings.HasPrefix(below, "mlp.down_proj."):
			dense[n] = true
		}
	}
	k, differ := 0, false
	for n := range dense {
		if dense[n] == routed[n] || n > 0 && dense[n] && !dense[n-1] {
			return // neither or both, or not the first ones: something else is wrong
		}
		if dense[n] {
			k++
		}
		differ = differ || dense[n] != c.Dense[n]
	}
	if says, stated := f.statedDense(); !differ && stated && says != k {
		f.add(ConfigKey, true, "config.json: first_k_dense_replace", takeKey,
			"it says %d; mlp_layer_types and the tensors make it %d: libraries read one of the two keys, and engines this one", says, k)
	}
	if !differ {
		return
	}
	says := 0
	for says < c.Layers && c.Dense[says] {
		says++
	}
	f.add(ConfigKey, true, "config.json: first_k_dense_replace", takeKey+"; mlp_layer_types, if it is there, says the same",
		"config.json makes the first %d layers dense, and the tensors say %d: from layer %d on they are experts with a router", says, k, k)
}

// statedDense is what first_k_dense_replace says, if it is there.
func (f *finder) statedDense() (k int, stated bool) {
	var v *int
	if json.Unmarshal(f.text()["first_k_dense_replace"], &v) != nil || v == nil {
		return 0, false
	}
	return *v, true
}

// attentionParts compares use_qk_norm and attention_bias with what all layers of
// the trunk store.
func (f *finder) attentionParts() {
	c := f.Config
	if c.LatentAttention() {
		return
	}
	norms, biases, padded, layers := map[int]bool{}, map[int]bool{}, map[int]bool{}, map[int]bool{}
	for _, t := range f.Tensors {
		n, below, ok := f.layerOf(t.Name)
		switch {
		case !ok || n >= c.Layers:
		case below == "self_attn.q_norm.weight":
			norms[n] = true
		case below == "self_attn.q_proj.bias":
			biases[n] = true
		case below == "self_attn.o_proj.bias": // no GLM has one: a tool of codes writes biases of zeros beside all of them
			padded[n] = true
		case strings.HasPrefix(below, "self_attn.q_proj."):
			layers[n] = true
		}
	}
	if len(layers) != c.Layers {
		return
	}
	for _, p := range []struct {
		key, what, stored string
		says              bool
		have              int
	}{
		{"use_qk_norm", "norms of q and k",
			"engines build no such parameters: SGLang warns and computes without the norms, which is another model, vLLM finds no parameter of the name", c.UseQKNorm, len(norms)},
		{"attention_bias", "biases of q, k and v",
			"engines build no such parameters: SGLang leaves the biases out without a word and computes another model", c.AttentionBias, len(biases)},
	} {
		where := "config.json: " + p.key
		switch {
		case !p.says && p.have == c.Layers && p.key == "attention_bias" && len(padded) == c.Layers:
		case !p.says && p.have == c.Layers:
			f.add(ConfigKey, true, where, takeKey, "it says false, and every layer stores %s, so it is true: %s", p.what, p.stored)
		case p.says && p.have == 0:
			f.add(ConfigKey, true, where, takeKey, "it says true, and no layer stores %s: the tensors are those of a model where it is false, unless all of them were lost", p.what)
		}
	}
}

// depth compares the blocks of the vision tower with what config.json says.
func (f *finder) depth() {
	v := f.Config.Vision
	if v == nil {
		return
	}
	blocks := map[int]bool{}
	last := -1
	for _, t := range f.Tensors {
		_, rest, ok := strings.Cut(t.Name, "visual.blocks.")
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(number); err == nil && n >= 0 {
			blocks[n] = true
			last = max(last, n)
		}
	}
	if n := len(blocks); n > 0 && n != v.Depth && last == n-1 {
		f.add(ConfigKey, true, "config.json: vision_config.depth", takeKey, "it says %d, and blocks 0 to %d of the tower are stored, so it is %d", v.Depth, last, n)
	}
}
