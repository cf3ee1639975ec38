package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/dlclark/regexp2"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
)

// Config is a quantisation config as an engine sees it.
type Config struct {
	Method      string // "compressed-tensors", "fp8", "ascend"
	Format      string // top-level format of compressed-tensors
	Groups      []Group
	Ignore      []Entry     // compressed-tensors
	NotConvert  []string    // fp8
	Description []Described // ascend

	mu    sync.Mutex                     // guards the views below, made when first asked for
	views map[reader]*view               // Description, as engines look it up
	names map[glm.Family]map[string]bool // NotConvert under vLLM's names
	words map[string]bool                // NotConvert as SGLang finds it
}

// Group is one config group of compressed-tensors, in file order.
type Group struct {
	Name    string
	Targets []Entry
	Format  string
	Weight  format.Weight
	Weights Args
	Acts    *Args // nil: activations are not quantised
}

// Args are the quantisation arguments that engines choose their classes by.
type Args struct {
	Bits     int
	Type     string // "int", "float"
	Strategy string // "tensor", "channel", "group", "block", "token", "tensor_group"
	Group    int    // 0: none
	Dynamic  bool
}

// Entry is a name or a "re:" pattern that matches from the start.
type Entry struct {
	Text string
	re   *regexp2.Regexp
}

func newEntry(text string) (Entry, error) {
	e := Entry{Text: text}
	if expr, ok := strings.CutPrefix(text, "re:"); ok {
		re, err := regexp2.Compile(`\A(?:`+expr+`)`, regexp2.None)
		if err != nil {
			return e, fmt.Errorf("engine: pattern %q: %w", text, err)
		}
		e.re = re
	}
	return e, nil
}

func newEntries(texts []string) ([]Entry, error) {
	var list []Entry
	for _, text := range texts {
		e, err := newEntry(text)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// matches applies Python's re.match, or equality for plain names.
func (e Entry) matches(name string) bool {
	if e.re == nil {
		return e.Text == name
	}
	ok, err := e.re.MatchString(name)
	return ok && err == nil
}

// ParseConfig reads a quantization_config object.
func ParseConfig(raw []byte) (*Config, error) {
	var q struct {
		Method     string          `json:"quant_method"`
		Format     string          `json:"format"`
		Groups     json.RawMessage `json:"config_groups"`
		Ignore     []string        `json:"ignore"`
		Ignored    []string        `json:"ignored_layers"`
		NotConvert []string        `json:"modules_to_not_convert"`
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, fmt.Errorf("engine: quantization_config: %w", err)
	}
	c := &Config{Method: q.Method, Format: q.Format, NotConvert: q.Ignored}
	if len(c.NotConvert) == 0 {
		c.NotConvert = q.NotConvert
	}
	var err error
	if c.Ignore, err = newEntries(q.Ignore); err != nil {
		return nil, err
	}
	return c, c.parseGroups(q.Groups)
}

// rawArgs are the arguments as they stand in the file.
type rawArgs struct {
	Bits     int             `json:"num_bits"`
	Type     string          `json:"type"`
	Strategy string          `json:"strategy"`
	Group    *int            `json:"group_size"`
	Dynamic  json.RawMessage `json:"dynamic"` // true, false or "local"
}

// args fills in what may be left out: the strategy, where there is a group
// size (docs/facts/engine-vllm.md 1.3).
func (r *rawArgs) args() *Args {
	if r == nil {
		return nil
	}
	a := &Args{Bits: r.Bits, Type: r.Type, Strategy: r.Strategy, Dynamic: len(r.Dynamic) > 0 && string(r.Dynamic) != "false"}
	if r.Group != nil && *r.Group > 0 {
		a.Group = *r.Group
	}
	switch {
	case a.Strategy != "":
	case a.Group > 0:
		a.Strategy = "group"
	case r.Group != nil:
		a.Strategy = "channel" // -1
	default:
		a.Strategy = "tensor"
	}
	return a
}

// weight is the record of arguments of a weight. Blocks are 128×128: engines
// know no other.
func (a Args) weight() format.Weight {
	w := format.Weight{Type: map[string]format.Type{"int": format.Int, "float": format.Float}[a.Type], Bits: a.Bits}
	switch w.Strategy, _ = format.ParseStrategy(a.Strategy); w.Strategy {
	case format.Group, format.TensorGroup:
		w.Group = a.Group
	case format.Block:
		w.BlockRows, w.BlockCols = 128, 128
	}
	return w
}

// parseGroups keeps the groups in the order of the file, which decides.
func (c *Config) parseGroups(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("engine: config_groups is not an object")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return fmt.Errorf("engine: config_groups: %w", err)
		}
		var g struct {
			Targets []string `json:"targets"`
			Format  string   `json:"format"`
			Weights *rawArgs `json:"weights"`
			Acts    *rawArgs `json:"input_activations"`
		}
		if err := dec.Decode(&g); err != nil {
			return fmt.Errorf("engine: config_groups: %w", err)
		}
		name, _ := t.(string)
		out := Group{Name: name, Format: g.Format, Acts: g.Acts.args()}
		if w := g.Weights.args(); w != nil {
			out.Weights, out.Weight = *w, w.weight()
		}
		if out.Targets, err = newEntries(g.Targets); err != nil {
			return err
		}
		c.Groups = append(c.Groups, out)
	}
	return nil
}

// target is one entry of the groups' targets with its group.
type target struct {
	Entry
	group *Group
}

// targets lists the targets of all groups in file order. A string that stands
// in two groups belongs to the last (docs/facts/engine-vllm.md 1.3).
func (c *Config) targets() []target {
	var list []target
	at := map[string]int{}
	for i := range c.Groups {
		g := &c.Groups[i]
		for _, t := range g.Targets {
			if k, ok := at[t.Text]; ok {
				list[k].group = g
				continue
			}
			at[t.Text] = len(list)
			list = append(list, target{t, g})
		}
	}
	return list
}
