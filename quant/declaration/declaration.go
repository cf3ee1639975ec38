package declaration

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// Method is the language a declaration is written in: its quant_method, in
// one spelling.
type Method string

// The methods that are read. A declaration of another one has its name, and
// nothing but a problem.
const (
	CompressedTensors Method = "compressed-tensors"
	FP8               Method = "fp8"
	MXFP8             Method = "mxfp8"
	ModelOpt          Method = "modelopt"
	Quark             Method = "quark"
	GPTQ              Method = "gptq"
	AWQ               Method = "awq"
	AutoRound         Method = "auto-round"
	Ascend            Method = "ascend"
)

// Known reports whether declarations of the method are read.
func (m Method) Known() bool {
	switch m {
	case CompressedTensors, FP8, MXFP8, ModelOpt, Quark, GPTQ, AWQ, AutoRound, Ascend:
		return true
	}
	return false
}

// Declaration is what a checkpoint says of its own quantization.
type Declaration struct {
	Method  Method
	Spelled string // quant_method as it stands there
	Root    string // the key or file it stands in, the start of every path in Problems
	Version string // of the tool or format
	Format  string // compressed-tensors: the format of groups that name none; GPTQ, AWQ, auto-round: the packing

	Groups []Group // in file order; what no rule and no entry of Ignore means
	Ignore List    // modules that are left alone
	Rules  []Rule  // what is said of single modules: the first that means a module decides, before Groups

	// Classes are Quark's schemes by the class of a module, which are for what
	// no rule means. Which class a module has is the reading program's affair:
	// of what is stored they say nothing, and a problem says so.
	Classes map[string]*Group

	// Entries are those of an Ascend description: a tensor each, in file order.
	Entries []Entry

	// Algorithm is ModelOpt's quant_algo as it is written: engines differ in
	// whether they tell upper from lower case.
	Algorithm string
	Head      bool // GPTQ, AWQ: lm_head says that the head is quantized too

	Cache    *Cache // of the key-value cache; nil: not quantized
	Problems []Problem

	unread  string          // why no weight can be read; "": some can
	stated  map[string]bool // keys at the top, and those below ModelOpt's "quantization"
	broken  error           // the first entry that is no pattern
	rules   List            // of Rules
	schemes map[string]int  // Entries by key
}

// Group is one scheme and the modules it is for.
type Group struct {
	Name    string
	Path    string
	Targets List   // names, expressions, and "Linear" for all that no entry names
	Format  string // its own format string; "": that of the declaration

	Weights format.Weight
	Input   format.Activation
	Output  format.Activation

	Preset     bool   // the name of a scheme with its targets, which compressed-tensors reads and no engine does
	WeightOnly bool   // no form of activations stands there, not even an absent one (Input is zero)
	Static     bool   // weights are said to be quantized while running: never true in a stored checkpoint
	Order      string // activation order: "" none, "weight" while calibrating, "group" with a permutation (g_idx)
	Judged     bool   // false: a field of it is unknown or not supported, Weights may be less than the truth
}

// Rule is what is said of the modules that a pattern means.
type Rule struct {
	Pattern *Pattern
	Group   *Group // nil: they are left alone
}

// Entry is a line of an Ascend description.
type Entry struct {
	Key    string // a tensor's name
	Scheme string // "W8A8_DYNAMIC", "FLOAT" …
}

// Cache is how the key-value cache is declared to be quantized.
type Cache struct {
	Path  string
	Form  format.Activation
	Named string // as the file calls it: "kv_cache_scheme", "FP8", "C8"
}

// Scales reports whether the checkpoint has to hold scales for the cache.
func (c *Cache) Scales() bool { return c.Form.When == format.Static }

// Scheme is what a declaration says of one module.
type Scheme struct {
	Group   *Group   // nil: left alone, or nothing is said
	Ignored *Pattern // the entry by which it is left alone
	Said    bool     // false: an Ascend description has no entry for it
}

// Weights returns what the module's weight is quantized to, zero for one that
// is not.
func (s Scheme) Weights() format.Weight {
	if s.Group == nil {
		return format.Weight{}
	}
	return s.Group.Weights
}

// Input returns what the module's input is quantized to.
func (s Scheme) Input() format.Activation {
	if s.Group == nil {
		return format.Activation{}
	}
	return s.Group.Input
}

// Files are the names of the files that declare a quantization, config.json
// apart.
var Files = []string{"quant_model_description.json", "hf_quant_config.json", "quantize_config.json", "quant_config.json", "quantization_config.json"}

// unread are the files that tools write beside config.json and engines read only
// when they are told to.
var unread = []string{"quantize_config.json", "quant_config.json", "quantization_config.json"}

// Beside returns the first file beside a config.json without a declaration that
// holds one which engines do not read there: its name, and what it declares. read
// reads a file by its name.
func Beside(read func(name string) ([]byte, error)) (name string, d *Declaration) {
	for _, name := range unread {
		raw, err := read(name)
		if err != nil || raw == nil {
			continue
		}
		if d, err := File(name, raw); err == nil && d != nil && d.Method.Known() {
			return name, d
		}
	}
	return "", nil
}

// MoveInto says how what a file declares gets to where engines look for it.
func (d *Declaration) MoveInto(name string) string {
	return fmt.Sprintf("put what %s holds into config.json as quantization_config, with \"quant_method\": %q", name, d.Method)
}

// File reads a file by its name: one of Files, or config.json. A config.json
// that declares nothing gives nil.
func File(name string, raw []byte) (*Declaration, error) {
	switch path.Base(name) {
	case "config.json":
		key, found, err := find(raw)
		if err != nil || found == nil {
			return nil, err
		}
		return config(key, found, "")
	case "quant_model_description.json":
		return Description(raw)
	case "hf_quant_config.json":
		return config(path.Base(name), raw, ModelOpt)
	case "quantize_config.json":
		return config(path.Base(name), raw, GPTQ)
	case "quant_config.json":
		return config(path.Base(name), raw, AWQ)
	case "quantization_config.json":
		return config(path.Base(name), raw, "")
	}
	return nil, fmt.Errorf("declaration: %s is not a file that declares a quantization", name)
}

// find returns the quantization_config of a config.json and its path. It may
// be called compression_config, and stand in text_config.
func find(raw []byte) (key string, found json.RawMessage, err error) {
	if !json.Valid(raw) {
		return "", nil, fmt.Errorf("declaration: config.json: %w", invalid(raw))
	}
	r := &reader{d: &Declaration{}}
	top := r.object("", raw)
	for _, o := range []*object{top, top.sub("text_config")} {
		for _, k := range []string{"quantization_config", "compression_config"} {
			if v := o.raw(k); v != nil {
				return o.at(k), v, nil
			}
		}
	}
	return "", nil, nil
}

// Config reads the quantization_config object of a config.json. The error
// says that it is not a JSON object; everything less is in Problems.
func Config(raw []byte) (*Declaration, error) { return config("quantization_config", raw, "") }

func config(root string, raw []byte, assumed Method) (*Declaration, error) {
	if !json.Valid(raw) {
		return nil, fmt.Errorf("declaration: %s: %w", root, invalid(raw))
	}
	d := &Declaration{Root: root}
	r := &reader{d: d}
	o := r.object(root, raw)
	if len(o.keys) == 0 && len(d.Problems) > 0 {
		return nil, fmt.Errorf("declaration: %s", d.Problems[0])
	}
	d.Spelled = o.text("quant_method")
	d.stated = map[string]bool{}
	for _, k := range o.keys {
		d.stated[k] = !isNull(o.values[k])
	}
	d.Method = method(o, assumed)
	switch d.Method {
	case CompressedTensors:
		r.compressedTensors(o)
	case FP8:
		r.fp8(o)
	case MXFP8:
		r.mxfp8(o)
	case ModelOpt:
		r.modelOpt(o)
	case Quark:
		r.quark(o)
	case GPTQ:
		r.gptq(o)
	case AWQ:
		r.awq(o)
	case AutoRound:
		r.autoRound(o)
	case "":
		r.add(o.at("quant_method"), Invalid, "it is missing: no engine knows how to read the rest")
	default:
		r.add(o.at("quant_method"), Unsupported, "%q is not a quantization that is read here", d.Spelled)
	}
	r.finish()
	return d, nil
}

// method tells the language of an object; assumed is that of its file, where
// the object does not say.
func method(o *object, assumed Method) Method {
	switch m := strings.ToLower(o.text("quant_method")); {
	case m == "" && assumed != "":
		return assumed
	case m == "" && (o.has("quant_algo") || o.has("quantization")):
		return ModelOpt
	case m == "" && o.has("config_groups"):
		return CompressedTensors // as its own library assumes
	case m == "sparseml":
		return CompressedTensors
	case strings.HasPrefix(m, "modelopt"):
		return ModelOpt
	case m == "gptq_marlin", m == "marlin":
		return GPTQ
	case m == "awq_marlin":
		return AWQ
	case m == "auto_round", m == "autoround", m == "intel/auto-round":
		return AutoRound
	default:
		return Method(m)
	}
}

// invalid says why and where a text is not JSON.
func invalid(raw []byte) error {
	if err := json.Unmarshal(raw, new(json.RawMessage)); err != nil {
		return err
	}
	return errors.New("not JSON")
}

// finish marks the groups that a problem concerns and indexes the rules.
func (r *reader) finish() {
	d := r.d
	for i := range d.Rules {
		d.rules.Add(d.Rules[i].Pattern)
	}
	for i := range d.Groups {
		d.Groups[i].Judged = d.Why(&d.Groups[i]) == ""
	}
	for i := range d.Rules {
		if g := d.Rules[i].Group; g != nil {
			g.Judged = d.Why(g) == ""
		}
	}
	for _, g := range d.Classes {
		g.Judged = d.Why(g) == ""
	}
	if r.n > 0 {
		d.Problems = append(d.Problems, Problem{d.Root, Unknown, fmt.Sprintf("%d problems more", r.n)})
	}
}

// Has reports whether there is a problem of the kind.
func (d *Declaration) Has(kind Kind) bool {
	for _, p := range d.Problems {
		if p.Kind == kind {
			return true
		}
	}
	return false
}

// States reports whether a key stands in the declaration, below ModelOpt's
// "quantization" as "quantization.group_size". Engines refuse declarations
// without some of them, or choose another class.
func (d *Declaration) States(key string) bool { return d.stated[key] }

// PatternError returns what is wrong with the first entry of a list that is no
// pattern of its kind, nil if all are. Tools and engines fail on it.
func (d *Declaration) PatternError() error { return d.broken }

// Patterns are all entries of the declaration: ignore list, rules and targets.
func (d *Declaration) Patterns() []*Pattern {
	list := append([]*Pattern(nil), d.Ignore.Entries...)
	for i := range d.Rules {
		list = append(list, d.Rules[i].Pattern)
	}
	for i := range d.Groups {
		list = append(list, d.Groups[i].Targets.Entries...)
	}
	return list
}

// FormatOf returns the format string that counts for a group: its own, or the
// declaration's.
func (d *Declaration) FormatOf(g *Group) string {
	if g.Format != "" {
		return g.Format
	}
	return d.Format
}

// Of returns what the declaration says of a linear module under the name that
// the checkpoint gives it, by the rules of the library that wrote it. Engines
// have their own names and rules.
func (d *Declaration) Of(module string) Scheme {
	if d.Method == Ascend {
		return d.described(module)
	}
	if d.Method == CompressedTensors {
		return d.compressed(module)
	}
	if p, i := d.rules.Find(module); i >= 0 {
		if g := d.Rules[i].Group; g != nil {
			return Scheme{Group: g, Said: true}
		}
		return Scheme{Ignored: p, Said: true}
	}
	if p, _ := d.Ignore.Find(module); p != nil {
		return Scheme{Ignored: p, Said: true}
	}
	for i := range d.Groups {
		if g := &d.Groups[i]; len(g.Targets.Entries) == 0 || g.Targets.Matches(module) || g.Targets.Matches(anyLinear) {
			return Scheme{Group: g, Said: true}
		}
	}
	return Scheme{Said: true}
}

// anyLinear is the class that stands for all linear modules.
const anyLinear = "Linear"

// compressed is the rule of compressed-tensors: entries of ignore by name or
// class; then targets, whole names before expressions before the class, each
// kind in the order of its texts.
func (d *Declaration) compressed(module string) Scheme {
	isClass := func(p *Pattern) bool { return p.How == Exact && (p.Text == anyLinear || p.Text == "Module") }
	if p, _ := d.Ignore.Find(module); p != nil {
		return Scheme{Ignored: p, Said: true}
	}
	for _, p := range d.Ignore.Entries {
		if isClass(p) {
			return Scheme{Ignored: p, Said: true}
		}
	}
	var best *Pattern
	var found *Group
	rank := func(p *Pattern) int {
		switch {
		case isClass(p):
			return 2
		case p.IsRegexp():
			return 1
		}
		return 0
	}
	for i := range d.Groups {
		g := &d.Groups[i]
		for _, p := range g.Targets.Entries {
			if !isClass(p) && !p.Match(module) {
				continue
			}
			// of one text in two groups the last one holds
			if best == nil || rank(p) < rank(best) || rank(p) == rank(best) && p.Text <= best.Text {
				best, found = p, g
			}
		}
	}
	return Scheme{Group: found, Said: true}
}
