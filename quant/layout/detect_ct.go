package layout

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
)

// patternTimeout bounds the work of one match: patterns come with the
// checkpoint and may be made to backtrack for ever.
const patternTimeout = time.Second

// pattern is an entry of ignore, targets or modules_to_not_convert: a module
// name, or "re:" and a regular expression that must match from the start, as
// Python's re.match does.
type pattern struct {
	text   string
	parent bool // the name also stands for what is below it (hf-fp8)
	re     *regexp.Regexp
	slow   *regexp2.Regexp // for what Go's expressions lack: (?!…)
}

func newPattern(text string) (pattern, error) {
	p := pattern{text: text}
	expr, ok := strings.CutPrefix(text, "re:")
	if !ok {
		return p, nil
	}
	expr = `\A(?:` + expr + `)`
	var err error
	if p.re, err = regexp.Compile(expr); err == nil {
		return p, nil
	}
	p.re = nil
	if p.slow, err = regexp2.Compile(expr, regexp2.None); err != nil {
		return p, err
	}
	p.slow.MatchTimeout = patternTimeout
	return p, nil
}

func newPatterns(texts []string) ([]pattern, error) {
	var list []pattern
	for _, text := range texts {
		p, err := newPattern(text)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}
		list = append(list, p)
	}
	return list, nil
}

func (p *pattern) match(module string) bool {
	switch {
	case p.re != nil:
		return p.re.MatchString(module)
	case p.slow != nil:
		ok, err := p.slow.MatchString(module)
		return ok && err == nil
	}
	return module == p.text || p.parent && strings.HasPrefix(module, p.text+".")
}

// class reports whether the entry is the class name of linear layers.
func (p *pattern) class() bool { return p.text == "Linear" }

// detectCT reads the compressed-tensors form. Groups keep the order of the
// file, which decides between two that match.
func detectCT(raw json.RawMessage) (*Existing, error) {
	var q struct {
		Format string          `json:"format"`
		Groups json.RawMessage `json:"config_groups"`
		Ignore []string        `json:"ignore"`
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, configError("compressed-tensors", ErrMalformed, "%v", err)
	}
	e := &Existing{Method: "compressed-tensors", Format: CompressedTensors}
	var err error
	if e.ignore, err = newPatterns(q.Ignore); err != nil {
		return nil, configError("ignore", ErrMalformed, "%v", err)
	}
	ms, err := members(q.Groups)
	if err != nil || len(ms) == 0 {
		return nil, configError("config_groups", ErrMalformed, "no group says how weights are stored")
	}
	for _, m := range ms {
		g, err := readGroup(m.key, q.Groups[m.value:m.end], q.Format)
		if err != nil {
			return nil, configError("config_groups."+m.key, ErrMalformed, "%v", err)
		}
		e.groups = append(e.groups, g)
	}
	return e, nil
}

// readArgs is the part of QuantizationArgs that says what codes mean.
type readArgs struct {
	NumBits   int             `json:"num_bits"`
	Type      string          `json:"type"`
	Symmetric *bool           `json:"symmetric"`
	GroupSize *int            `json:"group_size"`
	Strategy  string          `json:"strategy"`
	Block     json.RawMessage `json:"block_structure"`
	Dynamic   json.RawMessage `json:"dynamic"`
	ActOrder  json.RawMessage `json:"actorder"`
}

func readGroup(name string, raw []byte, format string) (declaredGroup, error) {
	var in struct {
		Targets []string  `json:"targets"`
		Weights *readArgs `json:"weights"`
		Acts    *readArgs `json:"input_activations"`
		Format  *string   `json:"format"`
	}
	g := declaredGroup{name: name}
	if err := json.Unmarshal(raw, &in); err != nil {
		return g, err
	}
	var err error
	if g.targets, err = newPatterns(in.Targets); err != nil {
		return g, err
	}
	if in.Weights == nil {
		return g, fmt.Errorf("no weights")
	}
	if in.Format != nil {
		format = *in.Format
	}
	g.is.Source = "group " + name
	foreign := func(what string) (declaredGroup, error) {
		g.err = configError("config_groups."+name, ErrForeign, "%s", what)
		return g, nil
	}
	w := in.Weights
	if w.Symmetric != nil && !*w.Symmetric {
		return foreign("asymmetric weights")
	}
	if s := string(w.ActOrder); s == `"group"` || s == `"dynamic"` {
		return foreign("activation order")
	}
	if w.GroupSize != nil && *w.GroupSize > 0 {
		g.is.Group = *w.GroupSize
	}
	strategy := w.Strategy
	switch {
	case strategy == "" && g.is.Group > 0:
		strategy = "group"
	case strategy == "":
		strategy = "channel" // group_size -1 of old files
	}
	switch key := fmt.Sprintf("%s%d %s", w.Type, w.NumBits, strategy); key {
	case "float8 channel":
		g.is.Encoding = FP8ChannelEnc
	case "float8 block":
		if s := strings.Join(strings.Fields(string(w.Block)), ""); s != "[128,128]" && s != `"128x128"` {
			return foreign("blocks of " + string(w.Block))
		}
		g.is.Encoding = FP8BlockEnc
	case "int8 channel":
		if format != "int-quantized" {
			return foreign("int8 as " + format)
		}
		g.is.Encoding = Int8ChannelEnc
	case "int4 group", "int4 channel":
		switch format {
		case "int-quantized":
			g.is.Encoding = Int4GroupEnc
		case "pack-quantized":
			g.is.Encoding = Int4PackedEnc
		default:
			return foreign("int4 as " + format)
		}
	default:
		return foreign(key + " weights")
	}
	if g.is.Encoding != Int4GroupEnc && g.is.Encoding != Int4PackedEnc || strategy == "channel" {
		g.is.Group = 0
	}
	if in.Acts == nil {
		return g, nil
	}
	if string(in.Acts.Dynamic) != "true" {
		return foreign("static activation scales")
	}
	switch key := fmt.Sprintf("%s%d %s", in.Acts.Type, in.Acts.NumBits, in.Acts.Strategy); key {
	case "int8 token":
		g.is.Acts = ActsInt8
	case "float8 token":
		g.is.Acts = ActsFP8
	case "float8 group":
		if in.Acts.GroupSize == nil || *in.Acts.GroupSize != 128 {
			return foreign("activation groups that are not of 128")
		}
		g.is.Acts = ActsFP8Group
	default:
		return foreign(key + " activations")
	}
	return g, nil
}
