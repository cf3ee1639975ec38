package grammar

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/runtime/chat"
)

// maxParts bounds what a schema is compiled to.
const maxParts = 1 << 15

// annotations say nothing about a value.
var annotations = []string{"title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "strict"}

// known are the keywords that are kept.
var known = []string{"type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "minLength", "maxLength", "anyOf", "allOf", "$ref", "format"}

// Schema is the JSON values that a schema describes, as [chat.ParseJSON] reads
// it. The error is an [*Error] that names the keyword.
func Schema(v any) (*Expr, error) {
	c := &compiler{json: newJSON(), root: v, refs: map[string]*Expr{}}
	e, err := c.schema(v, 0)
	if err != nil {
		return nil, err
	}
	return behindLine(e), nil
}

type compiler struct {
	json  *values
	root  any
	refs  map[string]*Expr
	parts int
}

func (c *compiler) schema(v any, depth int) (*Expr, error) {
	if c.parts++; c.parts > maxParts || depth > 64 {
		return nil, &Error{"schema", "it is too large"}
	}
	if v == true {
		return c.json.value, nil
	}
	o, ok := v.(*chat.Object)
	if !ok {
		return nil, &Error{"schema", "a schema is an object or true"}
	}
	for _, k := range o.Keys {
		if !slices.Contains(known, k) && !slices.Contains(annotations, k) {
			return nil, &Error{Keyword: k}
		}
	}
	for _, k := range []string{"$ref", "allOf", "anyOf", "const", "enum"} {
		if _, ok := o.Values[k]; !ok {
			continue
		}
		for _, other := range o.Keys {
			if other != k && slices.Contains(known, other) && (other != "type" || k != "const" && k != "enum") {
				return nil, &Error{k, fmt.Sprintf("beside %q it is not supported", other)}
			}
		}
		return c.whole(k, o, depth)
	}
	return c.typed(o, depth)
}

// whole compiles the keywords that describe a value by themselves.
func (c *compiler) whole(k string, o *chat.Object, depth int) (*Expr, error) {
	if k == "$ref" {
		return c.ref(o.Values[k], depth)
	}
	list, ok := o.Values[k].([]any)
	if k == "const" {
		list, ok = []any{o.Values[k]}, true
	}
	if !ok || len(list) == 0 {
		return nil, &Error{k, "it must be a list that is not empty"}
	}
	if k == "allOf" && len(list) > 1 {
		return nil, &Error{k, "of more than one schema it is not supported"}
	}
	var out []*Expr
	for _, v := range list {
		if k == "anyOf" || k == "allOf" {
			e, err := c.schema(v, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
			continue
		}
		if types, err := typesOf(o); err != nil {
			return nil, err
		} else if types != nil && !slices.ContainsFunc(types, func(t string) bool { return is(v, t) }) {
			continue
		}
		text := chat.Dumps(v)
		c.parts += len(text)
		out = append(out, Text(text))
	}
	if len(out) == 0 {
		return nil, &Error{k, "no value is of the type"}
	}
	return Or(out...), nil
}

// is reports whether a value is of a type.
func is(v any, t string) bool {
	switch v.(type) {
	case nil:
		return t == "null"
	case bool:
		return t == "boolean"
	case string:
		return t == "string"
	case []any:
		return t == "array"
	case *chat.Object:
		return t == "object"
	case float64:
		return t == "number"
	}
	return t == "integer" || t == "number"
}

// ref follows a pointer within the schema.
func (c *compiler) ref(v any, depth int) (*Expr, error) {
	path, ok := v.(string)
	if !ok || path != "#" && !strings.HasPrefix(path, "#/") {
		return nil, &Error{"$ref", "only pointers within the schema are followed"}
	}
	if e := c.refs[path]; e != nil {
		return e, nil
	}
	at := c.root
	for _, step := range strings.Split(strings.TrimPrefix(path, "#"), "/")[1:] {
		o, _ := at.(*chat.Object)
		if o == nil {
			at = nil
			break
		}
		at = o.Get(strings.NewReplacer("~1", "/", "~0", "~").Replace(step))
	}
	if at == nil {
		return nil, &Error{"$ref", fmt.Sprintf("%.80q is not there", path)}
	}
	e := &Expr{kind: isChoice}
	c.refs[path] = e
	inner, err := c.schema(at, depth+1)
	if err != nil {
		return nil, err
	}
	e.list = []*Expr{inner}
	return e, nil
}

// typesOf are the types that a schema names; nil: it names none.
func typesOf(o *chat.Object) ([]string, error) {
	var out []string
	switch t := o.Values["type"].(type) {
	case nil:
		return nil, nil
	case string:
		out = []string{t}
	case []any:
		for _, v := range t {
			s, _ := v.(string)
			out = append(out, s)
		}
	}
	for _, s := range out {
		if !slices.Contains([]string{"object", "array", "string", "number", "integer", "boolean", "null"}, s) {
			return nil, &Error{"type", fmt.Sprintf("%.40q is no type", s)}
		}
	}
	if len(out) == 0 {
		return nil, &Error{"type", "it must be a type or a list of types"}
	}
	return out, nil
}

// typed compiles a schema by its types; where it has none, by its keywords.
func (c *compiler) typed(o *chat.Object, depth int) (*Expr, error) {
	types, err := typesOf(o)
	if err != nil {
		return nil, err
	}
	if types == nil {
		types = []string{"object", "array", "string", "number", "boolean", "null"}
	}
	var out []*Expr
	for _, t := range types {
		var e *Expr
		switch t {
		case "object":
			e, err = c.object(o, depth)
		case "array":
			e, err = c.array(o, depth)
		case "string":
			e, err = c.text(o)
		default:
			e = map[string]*Expr{"number": c.json.number, "integer": c.json.integer, "boolean": c.json.boolean, "null": c.json.null}[t]
		}
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return Or(out...), nil
}

func (c *compiler) object(o *chat.Object, depth int) (*Expr, error) {
	others := c.json.value
	switch v := o.Values["additionalProperties"]; v {
	case nil, true:
	case false:
		others = nil
	default:
		var err error
		if others, err = c.schema(v, depth+1); err != nil {
			return nil, err
		}
	}
	required, err := names(o)
	if err != nil {
		return nil, err
	}
	props, _ := o.Values["properties"].(*chat.Object)
	if _, ok := o.Values["properties"]; ok && props == nil {
		return nil, &Error{"properties", "it must be an object"}
	}
	if props == nil && len(required) == 0 && others != nil {
		return c.json.members(others), nil
	}
	var list []member
	add := func(name string, value *Expr, needed bool) {
		text := chat.Dumps(name)
		c.parts += len(text)
		list = append(list, member{text, value, needed})
	}
	if props != nil {
		for _, k := range props.Keys {
			e, err := c.schema(props.Values[k], depth+1)
			if err != nil {
				return nil, err
			}
			add(k, e, slices.Contains(required, k))
		}
	}
	for _, k := range required {
		if props != nil && slices.Contains(props.Keys, k) {
			continue
		}
		if others == nil {
			return nil, &Error{"required", fmt.Sprintf("%.80q is no property, and there are no others", k)}
		}
		add(k, others, true)
	}
	return c.json.properties(list), nil
}

// names are those of required.
func names(o *chat.Object) (out []string, err error) {
	v, ok := o.Values["required"]
	list, isList := v.([]any)
	if ok && !isList {
		return nil, &Error{"required", "it must be a list of names"}
	}
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, &Error{"required", "it must be a list of names"}
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, nil
}

func (c *compiler) array(o *chat.Object, depth int) (*Expr, error) {
	lo, hi, err := bounds(o, "minItems", "maxItems")
	if err != nil {
		return nil, err
	}
	value := c.json.value
	if v, ok := o.Values["items"]; ok {
		if value, err = c.schema(v, depth+1); err != nil {
			return nil, err
		}
	}
	return c.json.items(value, lo, hi), nil
}

// bounds are the least and the most of something; most < 0: none.
func bounds(o *chat.Object, least, most string) (lo, hi int, err error) {
	hi = -1
	for k, into := range map[string]*int{least: &lo, most: &hi} {
		v, ok := o.Values[k]
		if !ok {
			continue
		}
		n, isInt := v.(int64)
		if f, ok := v.(float64); ok && f == float64(int64(f)) {
			n, isInt = int64(f), true
		}
		if !isInt || n < 0 || n > 1<<30 {
			return 0, 0, &Error{k, "it must be a count"}
		}
		*into = int(n)
	}
	if hi >= 0 && lo > hi {
		return 0, 0, &Error{least, "it is more than " + most}
	}
	return lo, hi, nil
}

func (c *compiler) text(o *chat.Object) (*Expr, error) {
	lo, hi, err := bounds(o, "minLength", "maxLength")
	if err != nil {
		return nil, err
	}
	f, ok := o.Values["format"]
	if !ok {
		return c.json.text(lo, hi), nil
	}
	name, _ := f.(string)
	e := formats()[name]
	if e == nil {
		return nil, &Error{"format", fmt.Sprintf("%.40q is not supported", name)}
	}
	if lo > 0 || hi >= 0 {
		return nil, &Error{"format", "beside a length it is not supported"}
	}
	return Seq(Text(`"`), e, Text(`"`)), nil
}

// formats are dates and times of RFC 3339 and UUIDs, in their plainest spelling.
func formats() map[string]*Expr {
	span := func(a, b byte) *Expr { return bytesOf([2]byte{a, b}) }
	digit, hex := span('0', '9'), bytesOf([2]byte{'0', '9'}, [2]byte{'a', 'f'})
	one := func(list ...string) *Expr {
		e := Or()
		for _, t := range list {
			e.list = append(e.list, Text(t))
		}
		return e
	}
	days := Or(Seq(Text("0"), span('1', '9')), Seq(Text("1"), digit), Seq(Text("2"), span('0', '8'))) // that every month has
	day := Or(Seq(one("02-"), days), Seq(one("04-", "06-", "09-", "11-"), Or(days, one("29", "30"))),
		Seq(one("01-", "03-", "05-", "07-", "08-", "10-", "12-"), Or(days, one("29", "30", "31"))))
	date := Seq(Repeat(digit, 4, 4), Text("-"), day)
	sixty := Seq(span('0', '5'), digit)
	clock := Seq(Or(Seq(span('0', '1'), digit), Seq(Text("2"), span('0', '3'))), Text(":"), sixty, Text(":"), sixty, Text("Z"))
	return map[string]*Expr{"date": date, "time": clock, "date-time": Seq(date, Text("T"), clock),
		"uuid": Seq(Repeat(hex, 8, 8), Text("-"), Repeat(hex, 4, 4), Text("-"), Repeat(hex, 4, 4), Text("-"), Repeat(hex, 4, 4), Text("-"), Repeat(hex, 12, 12))}
}
