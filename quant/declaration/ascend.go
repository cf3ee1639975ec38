package declaration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/jsonwalk"
	"github.com/glmconv/glmconv/quant/format"
)

// DescriptionName is the file of msmodelslim that gives every tensor a scheme.
const DescriptionName = "quant_model_description.json"

// Float is the scheme of tensors that are not quantized.
const Float = "FLOAT"

// AscendScheme is what a scheme string of msmodelslim says of a weight and of
// the input it is multiplied with.
type AscendScheme struct {
	Weights format.Weight
	Input   format.Activation
}

var (
	int4Token   = format.Activation{Type: format.Int, Bits: 4, Strategy: format.Token}
	int8Static  = format.Activation{Type: format.Int, Bits: 8, Strategy: format.Tensor, When: format.Static, ZeroPoints: true}
	ascendRange = map[string]AscendScheme{
		"FLOAT":                  {},
		"W8A8":                   {format.Int8, int8Static},
		"W8A8_DYNAMIC":           {format.Int8, format.Int8Token},
		"W8A8_MIX":               {format.Int8, format.Int8Token}, // static where an instance consumes a foreign cache
		"W8A16":                  {format.Int8, format.Activation{}},
		"W4A8_DYNAMIC":           {format.Int4(0).Packed(format.RowPairs), format.Int8Token},
		"W4A16":                  {format.Int4(32), format.Activation{}},
		"W4A4_DYNAMIC":           {format.Int4(0), int4Token},
		"W4A4_FLATQUANT_DYNAMIC": {format.Int4(0), int4Token},
		"W8A8_MXFP8":             {format.MXFP8, format.MXFP8Group},
		"W4A8_MXFP":              {format.MXFP4, format.MXFP8Group},
		"W4A4_MXFP4":             {format.MXFP4, format.MXFP4Group},
		"W4A16_MXFP4":            {format.MXFP4, format.Activation{}},
		"WFP8AFP8_DYNAMIC":       {format.Float8, format.Float8Token},
		"W8A8FP8_DYNAMIC":        {format.Float8, format.Float8Token},
	}
)

// spelled are the scheme strings as they stand in JSON.
var spelled = func() map[string]string {
	m := make(map[string]string, len(ascendRange))
	for s := range ascendRange {
		m[`"`+s+`"`] = s
	}
	return m
}()

// AscendSchemes are the scheme strings whose meaning is known.
func AscendSchemes() []string { return slices.Sorted(maps.Keys(ascendRange)) }

// ParseAscend returns the meaning of a scheme string.
func ParseAscend(s string) (AscendScheme, bool) {
	v, ok := ascendRange[s]
	return v, ok
}

// values of entries that are no scheme of a linear weight: caches and
// attention.
var cacheSchemes = map[string]string{
	"C8": "key-value cache in int8", "FAQuant": "quantized attention", "FAKQuant": "quantized attention", "INT8_DYNAMIC": "cache of the indexer in int8",
	"QK_INT8_DYNAMIC": "cache of the indexer in int8",
}

// cacheDynamic is a cache in int8 that package check judges.
const cacheDynamic = "INT8_DYNAMIC"

// Description reads quant_model_description.json. The error says that it is
// not a JSON object.
func Description(raw []byte) (*Declaration, error) { return description(raw, false) }

// WeightDescription reads the entries of weights in quant_model_description.json,
// by which engines look modules up, and not those of their scales, which are most
// of it.
func WeightDescription(raw []byte) (*Declaration, error) { return description(raw, true) }

// IsWeight reports whether engines look a module up under a key.
func IsWeight(key string) bool {
	return strings.HasSuffix(key, ".weight") || strings.HasSuffix(key, ".weight_packed")
}

func description(raw []byte, weights bool) (*Declaration, error) {
	if !json.Valid(raw) {
		return nil, fmt.Errorf("declaration: %s: %w", DescriptionName, invalid(raw))
	}
	lines := min(bytes.Count(raw, []byte{'\n'}), len(raw)/32) // an entry each, as everybody writes it
	if weights {
		lines /= 3 // scales and offsets
	}
	d := &Declaration{Method: Ascend, Spelled: "ascend", Root: DescriptionName, schemes: make(map[string]int, lines)}
	d.Entries = make([]Entry, 0, lines)
	r := &reader{d: d}
	walk := jsonwalk.New(raw)
	if _, ok := walk.Open(); !ok {
		return nil, fmt.Errorf("declaration: %s: %w", DescriptionName, errors.New("not a JSON object"))
	}
	for walk.More() {
		key, _ := walk.Key()
		value := walk.Value().Of(raw)
		scheme, ok := spelled[string(value)] // no string of its own
		if !ok {
			scheme, ok = jsonwalk.Unquote(value)
		}
		if ok && strings.Contains(key, ".") {
			if !weights || IsWeight(key) {
				d.entry(key, scheme)
			}
			continue
		}
		r.descriptionKey(key, value)
	}
	r.unknownSchemes()
	r.finish()
	return d, nil
}

// entry keeps the last scheme of a tensor, at its first place.
func (d *Declaration) entry(key, scheme string) {
	if i, ok := d.schemes[key]; ok {
		d.Entries[i].Scheme = scheme
		return
	}
	d.schemes[key] = len(d.Entries)
	d.Entries = append(d.Entries, Entry{key, scheme})
}

// descriptionKey reads a key that is not a tensor's.
func (r *reader) descriptionKey(key string, value json.RawMessage) {
	path := r.d.Root + "." + key
	text, _ := jsonwalk.Unquote(value)
	switch key {
	case "version":
		r.d.Version = text
	case "group_size", "model_quant_type", "is_rot_used", "optional", "metadata":
		// package check and the engines' rules ask for them by name
	case "kv_cache_type", "kv_quant_type":
		if text == "C8" {
			r.d.Cache = &Cache{Path: path, Named: text,
				Form: format.Activation{Type: format.Int, Bits: 8, Strategy: format.Channel, When: format.Static, ZeroPoints: true}}
		} else if text != "" && text != Float {
			r.add(path, Unsupported, "a key-value cache of the form %q is not judged", text)
		}
	case "indexer_quant_type":
		if text != "" && text != Float && text != cacheDynamic { // package check judges that cache
			r.add(path, Unsupported, "%s: %s is not judged", text, cacheSchemes[text])
		}
	case "fa_quant_type":
		if text != "" && text != Float {
			r.add(path, Unsupported, "%s: %s is not judged", text, cacheSchemes[text])
		}
	default:
		r.add(path, Unknown, "unknown key: vllm-ascend passes over it")
	}
}

// unknownSchemes names each scheme that is not known once, with the first
// tensor that has it.
func (r *reader) unknownSchemes() {
	told := map[string]bool{}
	for _, e := range r.d.Entries {
		if _, ok := ascendRange[e.Scheme]; ok || told[e.Scheme] || e.Scheme == cacheDynamic && strings.HasSuffix(e.Key, ".quant_type") {
			continue
		}
		told[e.Scheme] = true
		if what, ok := cacheSchemes[e.Scheme]; ok {
			if e.Scheme != "C8" {
				r.add(r.d.Root+"."+e.Key, Unsupported, "%s (%s) is not judged", e.Scheme, what)
			}
			continue
		}
		r.add(r.d.Root+"."+e.Key, Unsupported, "the scheme %q is not known here", e.Scheme)
	}
}

// SchemeOf returns the scheme string of a tensor in an Ascend description, ""
// if it has no entry.
func (d *Declaration) SchemeOf(tensor string) string {
	if i, ok := d.schemes[tensor]; ok {
		return d.Entries[i].Scheme
	}
	return ""
}

// described returns what a description says of a module's weight.
func (d *Declaration) described(module string) Scheme {
	for _, param := range []string{".weight", ".weight_packed"} {
		s := d.SchemeOf(module + param)
		if s == "" {
			continue
		}
		v, known := ascendRange[s]
		if s == Float {
			return Scheme{Said: true, Ignored: &Pattern{Text: module + param}}
		}
		return Scheme{Said: true, Group: &Group{Name: s, Path: d.Root + "." + module + param, Weights: v.Weights, Input: v.Input,
			WeightOnly: !v.Input.Quantized(), Judged: known}}
	}
	return Scheme{}
}
