package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dlclark/regexp2"
)

// declared is what a checkpoint says of its own quantisation: the author's
// intention by checkpoint names, as opposed to what each engine makes of it.
type declared struct {
	method string // "compressed-tensors", "fp8", "ascend", another, or "" for none
	format string
	groups []group
	ignore []*pattern
	scheme map[string]string // ascend: tensor name → entry
}

// group is one config group of compressed-tensors.
type group struct {
	name    string
	targets []*pattern
	weights quantArgs
	acts    *quantArgs
	format  string
}

// quantArgs are the fields of a QuantizationArgs object that matter.
type quantArgs struct {
	NumBits   int             `json:"num_bits"`
	Type      string          `json:"type"`
	Symmetric *bool           `json:"symmetric"`
	GroupSize *int            `json:"group_size"`
	Strategy  string          `json:"strategy"`
	Block     json.RawMessage `json:"block_structure"`
	Dynamic   json.RawMessage `json:"dynamic"`
	ActOrder  json.RawMessage `json:"actorder"`
}

// argKeys are the fields engines know; another one is a ValidationError in
// vLLM (docs/facts/engine-vllm.md 1.3).
var argKeys = []string{"num_bits", "type", "symmetric", "group_size", "strategy", "block_structure", "dynamic", "actorder", "scale_dtype", "zp_dtype", "observer", "observer_kwargs"}

// pattern is an entry of ignore or targets: "re:…" is a regular expression
// anchored at the start as Python's re.match does, anything else a name.
type pattern struct {
	text string
	re   *regexp2.Regexp
	used bool
}

func newPattern(s string) (*pattern, error) {
	p := &pattern{text: s}
	if expr, ok := strings.CutPrefix(s, "re:"); ok {
		re, err := regexp2.Compile(`\A(?:`+expr+`)`, regexp2.None)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", s, err)
		}
		p.re = re
	}
	return p, nil
}

func (p *pattern) match(name string) bool {
	hit := p.text == name
	if p.re != nil {
		hit, _ = p.re.MatchString(name)
	}
	p.used = p.used || hit
	return hit
}

func newPatterns(ss []string) (ps []*pattern, err error) {
	for _, s := range ss {
		p, err := newPattern(s)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// parseDeclared reads a quantization_config object.
func parseDeclared(raw json.RawMessage) (*declared, error) {
	var q struct {
		Method   string                     `json:"quant_method"`
		Format   string                     `json:"format"`
		Groups   map[string]json.RawMessage `json:"config_groups"`
		Ignore   json.RawMessage            `json:"ignore"`
		Ignored  []string                   `json:"ignored_layers"`
		NoConv   []string                   `json:"modules_to_not_convert"`
		Act      *string                    `json:"activation_scheme"`
		Block    []int                      `json:"weight_block_size"`
		Sparsity json.RawMessage            `json:"sparsity_config"`
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, fmt.Errorf("quantization_config: %w", err)
	}
	d := &declared{method: q.Method, format: q.Format}
	switch q.Method {
	case "compressed-tensors":
		return d, d.readGroups(q.Groups, q.Ignore)
	case "fp8":
		if q.Act == nil {
			return d, fmt.Errorf("quantization_config: activation_scheme is missing, engines require it")
		}
		if !slices.Equal(q.Block, []int{blockSize, blockSize}) {
			return d, fmt.Errorf("quantization_config: weight_block_size is %v, not [128 128]", q.Block)
		}
		list := q.Ignored
		if list == nil {
			list = q.NoConv
		}
		var err error
		d.ignore, err = newPatterns(list)
		return d, err
	case "":
		return d, fmt.Errorf("quantization_config: quant_method is missing")
	}
	return d, nil
}

func (d *declared) readGroups(groups map[string]json.RawMessage, ignore json.RawMessage) error {
	if string(ignore) == "null" {
		return fmt.Errorf("quantization_config: ignore is null; vLLM needs a list")
	}
	var list []string
	if len(ignore) > 0 {
		if err := json.Unmarshal(ignore, &list); err != nil {
			return fmt.Errorf("quantization_config: ignore: %w", err)
		}
	}
	var err error
	if d.ignore, err = newPatterns(list); err != nil {
		return fmt.Errorf("quantization_config: ignore: %w", err)
	}
	names := make([]string, 0, len(groups))
	for n := range groups {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		var g struct {
			Targets []string                   `json:"targets"`
			Weights map[string]json.RawMessage `json:"weights"`
			Acts    map[string]json.RawMessage `json:"input_activations"`
			Format  *string                    `json:"format"`
		}
		if err := json.Unmarshal(groups[n], &g); err != nil {
			return fmt.Errorf("quantization_config: group %s: %w", n, err)
		}
		out := group{name: n, format: d.format}
		if g.Format != nil {
			out.format = *g.Format
		}
		if out.targets, err = newPatterns(g.Targets); err != nil {
			return fmt.Errorf("quantization_config: group %s: %w", n, err)
		}
		if err := readArgs(g.Weights, &out.weights); err != nil {
			return fmt.Errorf("quantization_config: group %s: weights: %w", n, err)
		}
		if g.Acts != nil {
			out.acts = new(quantArgs)
			if err := readArgs(g.Acts, out.acts); err != nil {
				return fmt.Errorf("quantization_config: group %s: input_activations: %w", n, err)
			}
		}
		d.groups = append(d.groups, out)
	}
	if len(d.groups) == 0 {
		return fmt.Errorf("quantization_config: config_groups is empty")
	}
	return nil
}

func readArgs(m map[string]json.RawMessage, out *quantArgs) error {
	for k := range m {
		if !slices.Contains(argKeys, k) {
			return fmt.Errorf("unknown key %q; vLLM refuses it", k)
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

// form returns how the weights of the group lie on disk.
func (g *group) form() form {
	w := g.weights
	size := 0
	if w.GroupSize != nil && *w.GroupSize > 0 {
		size = *w.GroupSize
	}
	strategy := w.Strategy
	if strategy == "" && size > 0 {
		strategy = "group"
	}
	switch {
	case w.Type == "float" && w.NumBits == 8 && strategy == "block":
		return form{kind: fp8Block}
	case w.Type == "float" && w.NumBits == 8 && strategy == "channel":
		return form{kind: fp8Channel}
	case w.Type == "int" && w.NumBits == 8 && strategy == "channel" && g.format == "int-quantized":
		return form{kind: int8Channel}
	case w.Type == "int" && w.NumBits == 4 && g.format == "pack-quantized":
		return form{int4Packed, size}
	case w.Type == "int" && w.NumBits == 4 && g.format == "int-quantized":
		return form{int4Bytes, size}
	}
	return form{kind: foreign}
}

// want returns what the config intends for a linear module, by its checkpoint
// name: ignored, or the form of its group. A module in no group is plain.
func (d *declared) want(module string) (f form, ignored bool, groupName string) {
	switch d.method {
	case "compressed-tensors":
		for _, p := range d.ignore {
			if p.match(module) {
				return form{kind: plain}, true, ""
			}
		}
		// Names win over the class name "Linear".
		for i := range d.groups {
			for _, t := range d.groups[i].targets {
				if t.text != "Linear" && t.match(module) {
					return d.groups[i].form(), false, d.groups[i].name
				}
			}
		}
		for i := range d.groups {
			for _, t := range d.groups[i].targets {
				if t.text == "Linear" {
					t.used = true
					return d.groups[i].form(), false, d.groups[i].name
				}
			}
		}
		return form{kind: plain}, false, ""
	case "fp8":
		for _, p := range d.ignore {
			if p.match(module) || strings.HasPrefix(module, p.text+".") {
				p.used = true
				return form{kind: plain}, true, ""
			}
		}
		return form{kind: fp8BlockInv}, false, "fp8"
	case "ascend":
		switch d.scheme[module+".weight"] {
		case "FLOAT":
			return form{kind: plain}, true, "FLOAT"
		case "W8A8_DYNAMIC":
			return form{kind: ascendInt8}, false, "W8A8_DYNAMIC"
		case "W4A8_DYNAMIC":
			return form{kind: ascendInt4}, false, "W4A8_DYNAMIC"
		case "W8A8":
			return form{kind: ascendStatic}, false, "W8A8"
		}
		return form{kind: foreign}, false, d.scheme[module+".weight"]
	}
	return form{kind: plain}, true, ""
}
