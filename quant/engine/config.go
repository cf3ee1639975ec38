package engine

import (
	"fmt"
	"sync"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// Config is a declaration of quantization as engines look modules up in it.
type Config struct {
	Declaration *declaration.Declaration

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

	patterns map[string]*declaration.Pattern // entries as SGLang and vLLM read them
	lists    map[string][]string             // entries under an engine's names
	sets     map[string]map[string]bool

	// Quantized are the stored modules whose tensors are codes, for engines
	// that go by the tensors where the declaration names no modules; nil: all
	// that the declaration means.
	Quantized map[string]bool
	// Stored are all stored modules; it goes with Quantized.
	Stored []string
}

// Group is one config group of compressed-tensors, in file order.
type Group struct {
	Name    string
	Targets []Entry
	Format  string
	Weight  format.Weight // the codes
	Weights format.Weight // with packing and scales
	Acts    *format.Activation
}

// Entry is a name or a "re:" pattern that matches from the start.
type Entry struct {
	Text string
	re   *declaration.Pattern // nil for a name
}

func newEntries(list declaration.List) []Entry {
	var out []Entry
	for _, p := range list.Entries {
		e := Entry{Text: p.Text}
		if p.IsRegexp() {
			e.re = p
		}
		out = append(out, e)
	}
	return out
}

// matches applies Python's re.match, or equality for plain names.
func (e Entry) matches(name string) bool {
	if e.re == nil {
		return e.Text == name
	}
	return e.re.Match(name)
}

// Described is an entry of an Ascend description: a weight and its scheme.
type Described struct {
	Key    string // the module's name and ".weight" or ".weight_packed"
	Scheme string // "W8A8_DYNAMIC", "FLOAT" …
}

// ParseConfig reads a quantization_config object. What is wrong with single
// fields stands in Declaration.Problems; the error is that of a text that is
// no JSON object, or of an entry that is no pattern.
func ParseConfig(raw []byte) (*Config, error) {
	d, err := declaration.Config(raw)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if err := d.PatternError(); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return NewConfig(d), nil
}

// ParseDescription reads quant_model_description.json. Of several entries with
// one key the last holds.
func ParseDescription(raw []byte) (*Config, error) {
	d, err := declaration.Description(raw)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return NewConfig(d), nil
}

// NewConfig makes a declaration ready for looking modules up.
func NewConfig(d *declaration.Declaration) *Config {
	c := &Config{Declaration: d, Method: string(d.Method), Format: d.Format}
	if d.Method == declaration.CompressedTensors {
		c.Ignore = newEntries(d.Ignore)
	} else {
		for _, p := range d.Ignore.Entries {
			c.NotConvert = append(c.NotConvert, p.Text)
		}
	}
	for i := range d.Groups {
		g := &d.Groups[i]
		out := Group{Name: g.Name, Targets: newEntries(g.Targets), Format: g.Format, Weight: g.Weights.Codes(), Weights: g.Weights}
		if g.Input.Quantized() {
			out.Acts = &g.Input
		}
		c.Groups = append(c.Groups, out)
	}
	for _, e := range d.Entries {
		if declaration.IsWeight(e.Key) {
			c.Description = append(c.Description, Described(e))
		}
	}
	return c
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
