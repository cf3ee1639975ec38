package chat

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"

	controls "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
)

// Bounds of one rendering. Real templates with long agent histories stay far
// below them; a hostile one meets an error.
const (
	maxTemplate = 1 << 20
	maxOutput   = 64 << 20
	maxSteps    = 500_000 // loop iterations, summed over nested loops
	maxCalls    = 200_000 // macro calls
	maxNesting  = 200     // macro calls within macro calls
)

// rendering is the state of one run: gonja's maps forget their order, so it is
// remembered here by the identity of the map.
type rendering struct {
	order   map[uintptr][]string
	mark    rune
	steps   int
	calls   int
	nesting int
}

func newRendering() *rendering { return &rendering{order: map[uintptr][]string{}} }

// native turns our JSON values into what gonja understands.
func (r *rendering) native(v any) any {
	switch v := v.(type) {
	case *Object:
		m := make(map[string]any, len(v.Keys))
		for _, k := range v.Keys {
			m[k] = r.native(v.Values[k])
		}
		r.order[reflect.ValueOf(m).Pointer()] = v.Keys
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = r.native(v[i])
		}
		return list
	}
	return v
}

// pairs returns the items of a mapping in insertion order, sorted for maps made
// by the engine itself (namespaces).
func (r *rendering) pairs(v *exec.Value) (keys []string, values []*exec.Value) {
	val := v.Val
	for val.Kind() == reflect.Pointer || val.Kind() == reflect.Interface {
		val = val.Elem()
	}
	if val.Kind() != reflect.Map {
		for _, p := range v.Keys() {
			item, _ := v.GetItem(p.Interface())
			keys, values = append(keys, p.String()), append(values, item)
		}
		return keys, values
	}
	keys, ok := r.order[val.Pointer()]
	if !ok {
		for _, k := range val.MapKeys() {
			keys = append(keys, fmt.Sprint(k.Interface()))
		}
		slices.Sort(keys)
	}
	for _, k := range keys {
		item, _ := v.GetItem(k)
		values = append(values, item)
	}
	return keys, values
}

// plain is the inverse of native, for tojson.
func (r *rendering) plain(v *exec.Value, depth int) any {
	if v == nil || v.IsNil() || depth > maxDepth {
		return nil
	}
	if n, ok := v.Interface().(json.Number); ok {
		return n
	}
	switch {
	case v.IsString():
		return v.String()
	case v.IsBool():
		return v.Bool()
	case v.IsInteger():
		return int64(v.Integer())
	case v.IsFloat():
		return v.Float()
	case v.IsDict():
		o := NewObject()
		keys, values := r.pairs(v)
		for i, k := range keys {
			o.Set(k, r.plain(values[i], depth+1))
		}
		return o
	case v.IsList():
		list := []any{}
		v.Iterate(func(_, _ int, item, _ *exec.Value) bool {
			list = append(list, r.plain(item, depth+1))
			return true
		}, func() {})
		return list
	}
	return v.String()
}

func (r *rendering) items(v *exec.Value) []any {
	keys, values := r.pairs(v)
	out := make([]any, len(keys))
	for i := range keys {
		out[i] = []any{keys[i], values[i]}
	}
	return out
}

func (r *rendering) toJSON(_ *exec.Evaluator, in *exec.Value, args *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	d := pythonDefault
	d.raw = r.mark
	names := []string{"ensure_ascii", "indent", "separators", "sort_keys"}
	given := maps.Clone(args.KwArgs)
	for i, a := range args.Args {
		if i >= len(names) {
			return exec.AsValue(fmt.Errorf("tojson takes at most %d arguments", len(names)))
		}
		given[names[i]] = a
	}
	for name, a := range given {
		switch name {
		case "ensure_ascii":
			d.ascii = a.IsTrue()
		case "sort_keys":
			d.sortKeys = a.IsTrue()
		case "indent":
			if a.IsNil() {
				break
			}
			d.pretty, d.indent = true, a.String()
			if a.IsInteger() {
				d.indent = strings.Repeat(" ", min(max(a.Integer(), 0), 64))
			}
			if _, set := given["separators"]; !set {
				d.item = ","
			}
		case "separators":
			if !a.IsNil() && a.Len() == 2 {
				d.item, d.key = a.Index(0).String(), a.Index(1).String()
			}
		default:
			return exec.AsValue(fmt.Errorf("tojson has no argument %q", name))
		}
	}
	var b strings.Builder
	d.write(&b, r.plain(in, 0), "\n")
	return exec.AsSafeValue(b.String())
}

// filter names that no template can spell.
const (
	loopFilter  = "\x00loop"
	enterFilter = "\x00enter"
	leaveFilter = "\x00leave"
)

func (r *rendering) filters() map[string]exec.FilterFunction {
	return map[string]exec.FilterFunction{
		"tojson": r.toJSON,
		"items": func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			if in.IsError() || in.IsNil() || !in.IsDict() {
				return in
			}
			return exec.AsValue(r.items(in))
		},
		loopFilter: func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			if in.IsError() {
				return in
			}
			if in.IsDict() {
				keys, _ := r.pairs(in)
				in = exec.AsValue(keys)
			}
			if in.IsList() || in.IsString() {
				r.steps += in.Len()
			}
			if r.steps > maxSteps {
				return exec.AsValue(fmt.Errorf("%w: more than %d loop iterations", ErrLimit, maxSteps))
			}
			return in
		},
		enterFilter: func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			r.calls++
			r.nesting++
			if r.calls > maxCalls || r.nesting > maxNesting {
				return exec.AsValue(fmt.Errorf("%w: macros called too often or too deep", ErrLimit))
			}
			return in
		},
		leaveFilter: func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			r.nesting--
			return in
		},
	}
}

func (r *rendering) dictMethods() *exec.MethodSet[map[string]any] {
	type method = exec.Method[map[string]any]
	return exec.NewMethodSet(map[string]method{
		"items": func(_ map[string]any, self *exec.Value, _ *exec.VarArgs) (any, error) { return r.items(self), nil },
		"keys": func(_ map[string]any, self *exec.Value, _ *exec.VarArgs) (any, error) {
			keys, _ := r.pairs(self)
			return keys, nil
		},
		"values": func(_ map[string]any, self *exec.Value, _ *exec.VarArgs) (any, error) {
			_, values := r.pairs(self)
			return values, nil
		},
		"get": func(_ map[string]any, self *exec.Value, args *exec.VarArgs) (any, error) {
			if len(args.Args) < 1 || len(args.Args) > 2 {
				return nil, fmt.Errorf("get takes a key and perhaps a default")
			}
			if v, ok := self.GetItem(args.Args[0].String()); ok {
				return v.Interface(), nil
			}
			if len(args.Args) == 2 {
				return args.Args[1].Interface(), nil
			}
			return nil, nil
		},
	})
}

func rangeList(_ *exec.Evaluator, args *exec.VarArgs) ([]int, error) {
	start, stop, step := 0, 0, 1
	for _, a := range args.Args {
		if !a.IsInteger() {
			return nil, fmt.Errorf("range takes integers")
		}
	}
	switch len(args.Args) {
	case 1:
		stop = args.Args[0].Integer()
	case 2, 3:
		start, stop = args.Args[0].Integer(), args.Args[1].Integer()
		if len(args.Args) == 3 {
			step = args.Args[2].Integer()
		}
	default:
		return nil, fmt.Errorf("range takes one to three integers")
	}
	if step == 0 {
		return nil, fmt.Errorf("the step of range is 0")
	}
	out := []int{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(out) >= maxSteps {
			return nil, fmt.Errorf("%w: range of more than %d", ErrLimit, maxSteps)
		}
		out = append(out, i)
	}
	return out, nil
}

// structures are gonja's without the ones that open other templates.
func structures() *exec.ControlStructureSet {
	set := map[string]parser.ControlStructureParser{}
	for _, name := range []string{"if", "set", "raw", "with", "do", "break", "continue", "filter", "call"} {
		p, _ := controls.All.Get(name)
		set[name] = p
	}
	forParser, _ := controls.All.Get("for")
	set["for"] = func(p, args *parser.Parser) (nodes.ControlStructure, error) {
		c, err := forParser(p, args)
		if f, ok := c.(*controls.ForControlStructure); ok && err == nil {
			if f.Recursive {
				return nil, fmt.Errorf("recursive loops are not supported")
			}
			f.ObjectEvaluator = &nodes.FilteredExpression{Expression: f.ObjectEvaluator, Filters: []*nodes.FilterCall{{Token: f.Position(), Name: loopFilter}}}
		}
		return c, err
	}
	macroParser, _ := controls.All.Get("macro")
	set["macro"] = func(p, args *parser.Parser) (nodes.ControlStructure, error) {
		c, err := macroParser(p, args)
		if m, ok := c.(*controls.MacroControlStructure); ok && err == nil {
			guard := func(name string) nodes.Node {
				return &nodes.Output{Start: m.Location, Expression: &nodes.FilteredExpression{
					Expression: &nodes.String{Location: m.Location}, Filters: []*nodes.FilterCall{{Token: m.Location, Name: name}}}}
			}
			body := append([]nodes.Node{guard(enterFilter)}, m.Wrapper.Nodes...)
			m.Wrapper.Nodes = append(body, guard(leaveFilter))
		}
		return c, err
	}
	return exec.NewControlStructureSet(set)
}

// noLoader refuses every other template.
type noLoader struct{ source string }

func (l noLoader) Read(path string) (io.Reader, error) {
	if path != "template" {
		return nil, fmt.Errorf("a chat template cannot open %q", path)
	}
	return strings.NewReader(l.source), nil
}
func (l noLoader) Resolve(path string) (string, error)    { return path, nil }
func (l noLoader) Inherit(string) (loaders.Loader, error) { return l, nil }

// limited is the output of a rendering.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("%w: more than %d bytes of output", ErrLimit, maxOutput)
	}
	return l.Builder.Write(p)
}

func (l *limited) WriteString(s string) (int, error) { return l.Write([]byte(s)) }

func (r *rendering) compile(source string) (t *exec.Template, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrTemplate, p)
		}
	}()
	cfg := config.New()
	cfg.TrimBlocks, cfg.LeftStripBlocks = true, true
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{}).Update(builtins.Filters)
	for name, f := range r.filters() {
		if filters.Exists(name) {
			err = filters.Replace(name, f)
		} else {
			err = filters.Register(name, f)
		}
		if err != nil {
			return nil, err
		}
	}
	methods := builtins.Methods
	methods.Dict = r.dictMethods()
	namespace, _ := builtins.GlobalFunctions.Get("namespace")
	t, err = exec.NewTemplate("template", cfg, noLoader{source}, &exec.Environment{
		Filters: filters, Tests: builtins.Tests, ControlStructures: structures(), Methods: methods,
		Context: exec.NewContext(map[string]any{
			"namespace": namespace,
			"range":     rangeList,
			"raise_exception": func(text string) (string, error) {
				return "", fmt.Errorf("the template refuses: %s", text)
			},
			"strftime_now": func(format string) string { return strftime(time.Now(), format) },
		}),
	})
	if err != nil {
		// gonja quotes the whole source before the reason.
		text := err.Error()
		if i := strings.LastIndex(text, "': "); i >= 0 {
			text = text[i+3:]
		}
		err = fmt.Errorf("%w: %s", ErrTemplate, text)
	}
	return t, err
}

func (r *rendering) run(t *exec.Template, vars map[string]any) (text string, err error) {
	defer func() {
		if p := recover(); p != nil {
			text, err = "", fmt.Errorf("%w: %v", ErrTemplate, p)
		}
	}()
	var out limited
	if err := t.Execute(&out, exec.NewContext(vars)); err != nil {
		return "", fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	return out.String(), nil
}

// strftime covers the directives that templates use for dates.
func strftime(t time.Time, format string) string {
	return strings.NewReplacer("%Y", t.Format("2006"), "%m", t.Format("01"), "%d", t.Format("02"), "%B", t.Format("January"), "%b", t.Format("Jan"),
		"%A", t.Format("Monday"), "%H", t.Format("15"), "%M", t.Format("04"), "%S", t.Format("05"), "%%", "%").Replace(format)
}
