package layout

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
)

// DescriptionName is the file that names the scheme of every tensor of an
// Ascend checkpoint.
const DescriptionName = declaration.DescriptionName

// What a rotated checkpoint has besides: the matrix for its drafts among the
// tensors, that of the stream in a file of its own.
const (
	DraftRotation  = "rot.weight"
	GlobalRotation = "global_rotation"
	RotationFile   = "optional/quarot.safetensors"
)

func (l ascend) Config(d Decisions) (map[string][]byte, error) {
	raw, err := stripQuantization(d.Config.Raw)
	if err != nil {
		return nil, err
	}
	if raw, err = adjustMTP(raw, d); err != nil {
		return nil, err
	}
	size := 0
	l.describe(d, func(b []byte) { size += len(b) })
	text := make([]byte, 0, size)
	l.describe(d, func(b []byte) { text = append(text, b...) })
	return map[string][]byte{"config.json": raw, DescriptionName: text}, nil
}

// Describe hands out the text of the description in pieces, which are not to be
// kept: 20 MB in all for the largest model.
func Describe(d Decisions, put func([]byte)) { ascend{}.describe(d, put) }

// describe lists every tensor with its scheme, then the keys that have no
// tensor behind them. There are 240,000 keys for the largest model.
func (l ascend) describe(d Decisions, put func([]byte)) {
	extra := extraKeys(d)
	stands := make(map[string]bool, len(extra)) // whether an extra key is there already
	for _, e := range extra {
		stands[e.key] = false
	}
	separator, line := "{\n", []byte(nil)
	entry := func(key []byte, value string) {
		line = appendEntry(append(line[:0], separator...), key, value)
		separator = ",\n"
		put(line)
	}
	var key []byte
	for i := range d.Weights {
		w := d.Weights[i]
		if d.Rotated && w.Tensor.Name == DraftRotation {
			continue // as in msmodelslim's
		}
		stem, parts := l.names(w)
		value := `"` + ascendScheme(w.Quant) + `"`
		if isCache(w) {
			value = `"` + cacheScheme + `"`
		}
		for _, part := range parts {
			key = append(append(key[:0], stem...), part...)
			if _, ok := stands[string(key)]; ok {
				stands[string(key)] = true
			}
			entry(key, value)
		}
	}
	for _, e := range extra {
		if !stands[e.key] {
			stands[e.key] = true
			entry([]byte(e.key), e.value)
		}
	}
	put([]byte("\n}\n"))
}

// entry is a line of a description; the value is JSON.
type entry struct{ key, value string }

// extraKeys are the keys without a tensor of their own: the aliases that
// engines look up and the keys that ModelSlim always writes
// (docs/facts/ascend.md 1.3, 4; docs/facts/engine-vllm-ascend.md 2, 5;
// docs/facts/engine-sglang.md 6).
func extraKeys(d Decisions) (list []entry) {
	quantType, group := "FLOAT", 0
	for i := range d.Weights {
		w := d.Weights[i]
		scheme := ascendScheme(w.Quant)
		if scheme == "W8A8" || scheme == "W8A8_DYNAMIC" && quantType != "W8A8" {
			quantType = scheme // ModelSlim's ranking leaves W4A8_DYNAMIC out
		}
		if isMicro(w.Quant) { // classes of MX divide by it
			quantType, group = scheme, w.Quant.Group
		}
		for _, alias := range aliases(w, d.Config) {
			list = append(list, entry{alias, `"` + scheme + `"`})
		}
	}
	for _, layer := range mtpLayers(d) { // looked up whether the tensor is there or not
		embed, head := d.Config.MTPNames(layer)
		list = append(list, entry{embed, `"FLOAT"`}, entry{head, `"FLOAT"`})
	}
	list = append(list, d.Caches.entries(d.Config)...)
	optional := "{}"
	if d.Rotated {
		optional = `{"quarot": {"rotation_map": {"global_rotation": "` + RotationFile + `"}}}`
		if slices.ContainsFunc(d.Weights, func(w *Weight) bool { return w.Tensor.Name == DraftRotation }) {
			list = append(list, entry{"is_rot_used", "true"})
		}
	}
	return append(list, entry{"version", `"1.0.0"`}, entry{"model_quant_type", `"` + quantType + `"`},
		entry{"metadata", "{}"}, entry{"group_size", strconv.Itoa(group)}, entry{"optional", optional})
}

// appendEntry appends a line without its comma. Keys are escaped as encoding/json does.
func appendEntry(b, key []byte, value string) []byte {
	b = append(b, "  "...)
	if plain(key) {
		b = append(append(append(b, '"'), key...), '"')
	} else {
		k, _ := json.Marshal(string(key)) // a string: cannot fail
		b = append(b, k...)
	}
	return append(append(b, ": "...), value...)
}

// plain reports whether a string needs no escape.
func plain(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// aliases are description keys without a tensor: newer vLLM names the vision
// tower's fused projection qkv_proj and looks for its shards, and SGLang looks
// 4.5V names up without the leading "model.".
func aliases(w *Weight, cfg *glm.Config) []string {
	t := w.Tensor
	if !cfg.NestedText() || t.Param != "weight" {
		return nil
	}
	var out []string
	if base, ok := strings.CutSuffix(t.Module, ".attn.qkv"); ok && t.Role.IsVision() {
		for _, p := range []string{"q", "k", "v"} {
			out = append(out, base+".attn."+p+"_proj.weight")
		}
	}
	for _, name := range append([]string{t.Name}, out...) {
		if short, ok := strings.CutPrefix(name, "model."); ok {
			out = append(out, short)
		}
	}
	return out
}
