package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/bench"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/recipe"
	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/diff"
	"github.com/glmconv/glmconv/verify/endpoint"
	reports "github.com/glmconv/glmconv/verify/report"
)

// describeWord is the argument by which the manual pages and the site's reference
// are made: glmconv __describe prints commands, flags, codes and JSON schemas.
const describeWord = "__describe"

type commandText struct {
	Name        string     `json:"name"`
	Usage       string     `json:"usage"`
	Args        string     `json:"args"`
	Description string     `json:"description"`
	Flags       []flagText `json:"flags"`
	Common      []flagText `json:"common"` // those that other commands have too
}

type flagText struct {
	Names      []string `json:"names"` // without dashes, the first is the one to use
	Value      string   `json:"value"` // placeholder; "" for a switch
	Usage      string   `json:"usage"`
	Default    string   `json:"default"`
	Values     []string `json:"values"` // where they can be listed
	Repeatable bool     `json:"repeatable"`
}

// results are the JSON forms that commands print or write; nil: no Go type has
// the form.
var results = []struct {
	schema string
	value  any
}{
	{"glmconv.inspect/1", check.Inspection{}},
	{"glmconv.plan/1", quant.PlanJSON{}},
	{planFileSchema, planFile{}},
	{"glmconv.calibrate/1", calibrateResult{}},
	{"glmconv.calib/1", nil},
	{"glmconv.quantize/1", quantizeResult{}},
	{"glmconv.manifest/1", quant.Manifest{}},
	{mtp.SchemaRemap, mtp.Remap{}},
	{"glmconv.repair/1", repairResult{}},
	{check.Schema, check.Report{}},
	{diff.Schema, diff.Report{}},
	{"glmconv.verify/1", nil},
	{endpoint.Schema, endpoint.Result{}},
	{"glmconv.run/1", runJSON{}},
	{recipe.Schema, recipe.Recipe{}},
	{"glmconv.bench/1", nil},
	{bench.CompareSchema, nil},
	{"glmconv.demo/1", demoResult{}},
	{explainSchema, explainResult{}},
	{"glmconv.version/1", buildInfo{}},
}

// describe prints everything that a reference needs.
func describe(w io.Writer, app *cli.App) error {
	out := struct {
		Schema      string                     `json:"schema"`
		Version     string                     `json:"version"`
		Usage       string                     `json:"usage"`
		Description string                     `json:"description"`
		Commands    []commandText              `json:"commands"`
		Codes       []explanation              `json:"codes"`
		Results     map[string]json.RawMessage `json:"results"`
	}{"glmconv.describe/1", currentBuild().Version, app.Usage, app.Description, nil, explanations(), map[string]json.RawMessage{}}
	common := map[string]bool{}
	for _, f := range append(commonFlags(), remoteFlags()...) {
		common[f.Names()[0]] = true
	}
	for _, c := range app.Commands {
		t := commandText{Name: c.Name, Usage: c.Usage, Args: strings.TrimSpace(c.ArgsUsage), Description: c.Description, Flags: []flagText{}, Common: []flagText{}}
		for _, f := range c.Flags {
			if common[f.Names()[0]] {
				t.Common = append(t.Common, describeFlag(c.Name, f))
			} else {
				t.Flags = append(t.Flags, describeFlag(c.Name, f))
			}
		}
		out.Commands = append(out.Commands, t)
	}
	for _, r := range results {
		var err error
		if out.Results[r.schema], err = resultSchema(r.schema, r.value); err != nil {
			return err
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

func describeFlag(command string, f cli.Flag) flagText {
	t := flagText{Names: f.Names(), Repeatable: repeatable(f)}
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return t
	}
	t.Usage = strings.ReplaceAll(d.GetUsage(), "`", "")
	if !d.TakesValue() {
		return t
	}
	if t.Value = placeholder(f); t.Value == "" {
		t.Value = "VALUE"
	}
	if v := d.GetDefaultText(); !t.Repeatable && v != `""` && v != "0" {
		t.Default = strings.Trim(v, `"`)
	}
	if kind, list := valuesOf(command, f); kind == listValue {
		t.Values = list
	}
	return t
}

// resultSchema is the JSON Schema of a result, from its Go type.
func resultSchema(name string, v any) (json.RawMessage, error) {
	if name == "glmconv.verify/1" {
		return reports.Schema(), nil
	}
	s := map[string]any{}
	if v != nil {
		s = schemaOf(reflect.TypeOf(v), 0)
	}
	if p, ok := s["properties"].(map[string]any); ok {
		p["schema"] = map[string]any{"const": name}
	}
	s["$schema"], s["title"] = "https://json-schema.org/draft/2020-12/schema", name
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("schema of %s: %w", name, err)
	}
	return raw, nil
}

var marshaler = reflect.TypeFor[json.Marshaler]()

// schemaOf says how encoding/json writes a type.
func schemaOf(t reflect.Type, depth int) map[string]any {
	if depth > 8 || t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) {
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		s := schemaOf(t.Elem(), depth)
		if kind, ok := s["type"].(string); ok {
			s["type"] = []string{kind, "null"}
		}
		return s
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer"}
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), depth+1)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), depth+1)}
	case reflect.Struct:
		properties := map[string]any{}
		addFields(properties, t, depth)
		return map[string]any{"type": "object", "properties": properties}
	}
	return map[string]any{}
}

func addFields(properties map[string]any, t reflect.Type, depth int) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			addFields(properties, inner, depth)
		case !f.IsExported() || name == "-":
		case name == "":
			properties[f.Name] = schemaOf(f.Type, depth+1)
		default:
			properties[name] = schemaOf(f.Type, depth+1)
		}
	}
}
