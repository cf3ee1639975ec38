package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dlclark/regexp2"
)

// Encoding says how an engine would take a module's weight, in words that do
// not depend on the layout: "float", "fp8 channel", "fp8 block", "int8
// channel", "int4 group 128", "int4 channel".
type Encoding string

// Float is the encoding of a module that is not quantised.
const Float Encoding = "float"

// Config is a quantisation config as an engine sees it.
type Config struct {
	Method      string // "compressed-tensors", "fp8", "ascend"
	Format      string // top-level format of compressed-tensors
	Groups      []Group
	Ignore      []Entry        // compressed-tensors
	NotConvert  []string       // fp8
	Description map[string]any // ascend

	keys map[Engine]map[string]string // of Description, by runtime name
}

// Group is one config group of compressed-tensors, in file order.
type Group struct {
	Name     string
	Targets  []Entry
	Format   string
	Encoding Encoding
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
	for _, text := range q.Ignore {
		e, err := newEntry(text)
		if err != nil {
			return nil, err
		}
		c.Ignore = append(c.Ignore, e)
	}
	return c, c.parseGroups(q.Groups)
}

// parseGroups keeps the groups in the order of the file, which decides.
func (c *Config) parseGroups(raw json.RawMessage) error {
	if len(raw) == 0 {
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
			Weights *struct {
				Bits      int    `json:"num_bits"`
				Type      string `json:"type"`
				Strategy  string `json:"strategy"`
				GroupSize *int   `json:"group_size"`
			} `json:"weights"`
		}
		if err := dec.Decode(&g); err != nil {
			return fmt.Errorf("engine: config_groups: %w", err)
		}
		name, _ := t.(string)
		out := Group{Name: name, Format: g.Format, Encoding: Float}
		if w := g.Weights; w != nil {
			kind := map[string]string{"int": "int", "float": "fp"}[w.Type]
			out.Encoding = Encoding(fmt.Sprintf("%s%d %s", kind, w.Bits, w.Strategy))
			if w.Strategy == "group" && w.GroupSize != nil {
				out.Encoding += Encoding(fmt.Sprintf(" %d", *w.GroupSize))
			}
		}
		for _, text := range g.Targets {
			e, err := newEntry(text)
			if err != nil {
				return err
			}
			out.Targets = append(out.Targets, e)
		}
		c.Groups = append(c.Groups, out)
	}
	return nil
}

// ParseDescription reads quant_model_description.json.
func ParseDescription(raw []byte) (*Config, error) {
	c := &Config{Method: "ascend"}
	if err := json.Unmarshal(raw, &c.Description); err != nil {
		return nil, fmt.Errorf("engine: quant_model_description.json: %w", err)
	}
	return c, nil
}
