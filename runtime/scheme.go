package runtime

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/dlclark/regexp2"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/layout"
)

// scheme is what a checkpoint's quantization_config says of its modules and
// its tensors cannot: bits of integer codes, form of the activations.
type scheme struct{ groups []group }

// group is a config group of compressed-tensors (docs/facts/layouts.md 1.1).
type group struct {
	exact    map[string]bool
	patterns []*regexp2.Regexp
	linear   bool // the class target "Linear"
	bits     int
	act      format.Activation
}

// parseScheme reads quantization_config. A nil config is a full-precision or an
// Ascend checkpoint. Unknown groups matter only to modules they match.
func parseScheme(cfg *glm.Config) (*scheme, error) {
	s := &scheme{}
	if cfg.Quantization != "compressed-tensors" {
		return s, nil
	}
	var q struct {
		Groups json.RawMessage `json:"config_groups"`
	}
	if err := json.Unmarshal(cfg.QuantizationConfig, &q); err != nil {
		return nil, &Error{Where: "config.json: quantization_config", Reason: err.Error(), Kind: ErrUnsupported}
	}
	dec := json.NewDecoder(strings.NewReader(string(q.Groups)))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, unsupported("config.json: quantization_config.config_groups", "is not an object")
	}
	for dec.More() { // in file order: the first match wins
		name, err := dec.Token()
		if err != nil {
			return nil, unsupported("config.json: quantization_config.config_groups", "%v", err)
		}
		var g groupJSON
		if err := dec.Decode(&g); err != nil {
			return nil, unsupported(fmt.Sprintf("config.json: config group %v", name), "%v", err)
		}
		parsed, err := g.parse()
		if err != nil {
			return nil, unsupported(fmt.Sprintf("config.json: config group %v", name), "%v", err)
		}
		s.groups = append(s.groups, parsed)
	}
	return s, nil
}

type groupJSON struct {
	Targets []string `json:"targets"`
	Weights *argsJSON
	Inputs  *argsJSON `json:"input_activations"`
}

type argsJSON struct {
	Bits     int    `json:"num_bits"`
	Type     string `json:"type"`
	Strategy string `json:"strategy"`
	Group    *int   `json:"group_size"`
	Dynamic  any    `json:"dynamic"`
}

func (g groupJSON) parse() (group, error) {
	out := group{exact: map[string]bool{}}
	for _, t := range g.Targets {
		p, isPattern := strings.CutPrefix(t, "re:")
		switch {
		case isPattern:
			re, err := regexp2.Compile(`\A(?:`+p+`)`, regexp2.None) // Python's re.match; look-aheads occur
			if err != nil {
				return out, fmt.Errorf("target %q: %w", t, err)
			}
			re.MatchTimeout = time.Second // an expression that backtracks without end matches nothing
			out.patterns = append(out.patterns, re)
		case t == "Linear":
			out.linear = true
		default:
			out.exact[t] = true
		}
	}
	if g.Weights == nil {
		return out, nil
	}
	out.bits = g.Weights.Bits
	a := g.Inputs
	switch {
	case a == nil:
	case a.Dynamic != true:
		return out, fmt.Errorf("static activations (dynamic = %v)", a.Dynamic)
	case a.Bits == 8 && a.Type == "int" && (a.Strategy == "token" || a.Strategy == ""):
		out.act = format.Int8Token
	case a.Bits == 8 && a.Type == "float" && a.Strategy == "token":
		out.act = format.Float8Token
	case a.Bits == 8 && a.Type == "float" && a.Strategy == "group" && a.Group != nil && *a.Group == 128:
		out.act = format.Float8Group
	default:
		return out, fmt.Errorf("activations of %d bits, type %q, strategy %q", a.Bits, a.Type, a.Strategy)
	}
	return out, nil
}

// find returns the group of a module: by name before by class.
func (s *scheme) find(module string) *group {
	for i := range s.groups {
		g := &s.groups[i]
		if g.exact[module] {
			return g
		}
		for _, re := range g.patterns {
			if ok, err := re.MatchString(module); ok && err == nil {
				return g
			}
		}
	}
	for i := range s.groups {
		if s.groups[i].linear {
			return &s.groups[i]
		}
	}
	return nil
}

// weight says how wide the integer codes of a module are.
func (s *scheme) weight(module string) format.Weight {
	if g := s.find(module); g != nil && g.bits != 0 {
		return format.Weight{Type: format.Int, Bits: g.bits}
	}
	return format.Weight{Type: format.Int, Bits: 8}
}

// activation returns what the engines do with the input of a stored module.
func (s *scheme) activation(st layout.Stored) (format.Activation, error) {
	var want format.Activation
	packed := st.Quant.Packing == format.Words
	switch q := st.Quant; {
	case q.Type == format.Float && q.Strategy == format.Channel:
		want = format.Float8Token
	case q.Type == format.Float && q.Strategy == format.Block:
		want = format.Float8Group
	case q.Type == format.Int && !packed:
		want = format.Int8Token
	case !packed:
		return want, unsupported(st.Module, "no kernel for %s", q)
	}
	if st.Format != layout.CompressedTensors {
		return want, nil
	}
	g := s.find(st.Module)
	if g == nil {
		return want, unsupported(st.Module, "is quantised, but no config group targets it; engines would read its codes as weights")
	}
	if g.act == want || packed && g.act == format.Float8Token {
		return g.act, nil
	}
	return want, unsupported(st.Module, "%s weights with %s activations", st.Quant, g.act)
}
