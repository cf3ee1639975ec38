package grammar

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/runtime/chat"
)

// Calls are calls of tools as GLM writes them (docs/facts/families.md 9.2): the
// name, then keys and values between tags, values of strings as they are and
// others in JSON. name chooses one tool, "" any; many allows more than one call.
// mark gives a tag: an added token, where the vocabulary has it.
func Calls(tools []*chat.Object, name string, many bool, mark func(tag string) *Expr) (*Expr, error) {
	var list []*Expr
	for _, t := range tools {
		if f, ok := t.Get("function").(*chat.Object); ok {
			t = f
		}
		own := t.Text("name")
		if own == "" || name != "" && own != name {
			continue
		}
		args, err := arguments(t.Get("parameters"), mark)
		if err != nil {
			return nil, fmt.Errorf("tool %.80q: %w", own, err)
		}
		list = append(list, Seq(Text(own), args))
	}
	if len(list) == 0 {
		return nil, &Error{"name", fmt.Sprintf("no tool is called %.80q", name)}
	}
	most := 1
	if many {
		most = -1
	}
	line := maybe(Text("\n"))
	return Repeat(Seq(line, mark("<tool_call>"), Or(list...), line, mark("</tool_call>")), 1, most), nil
}

// arguments are the pairs of a call, in the order of the properties; those that
// are not required may be left out.
func arguments(parameters any, mark func(string) *Expr) (*Expr, error) {
	o, ok := parameters.(*chat.Object)
	if !ok {
		if parameters == nil {
			return Seq(), nil
		}
		return nil, &Error{"parameters", "they must be a schema of an object"}
	}
	c := &compiler{json: newJSON(), root: o, refs: map[string]*Expr{}}
	if _, err := c.object(o, 0); err != nil {
		return nil, err
	}
	required, err := names(o)
	if err != nil {
		return nil, err
	}
	props, _ := o.Get("properties").(*chat.Object)
	if props == nil {
		props = chat.NewObject()
	}
	for _, k := range required {
		if !slices.Contains(props.Keys, k) {
			return nil, &Error{"required", fmt.Sprintf("%.80q is no property", k)}
		}
	}
	line, all := maybe(Text("\n")), Seq()
	for _, k := range props.Keys {
		value, err := c.argument(props.Values[k])
		if err != nil {
			return nil, err
		}
		pair := Seq(line, mark("<arg_key>"), Text(k), mark("</arg_key>"), line, mark("<arg_value>"), value, mark("</arg_value>"))
		if !slices.Contains(required, k) {
			pair = maybe(pair)
		}
		all.list = append(all.list, pair)
	}
	return all, nil
}

// argument is a value: a text as it is where the schema allows texts, otherwise
// JSON.
func (c *compiler) argument(v any) (*Expr, error) {
	e, err := c.schema(v, 0)
	o, ok := v.(*chat.Object)
	if err != nil || !ok || !mayBeText(o) {
		return e, err
	}
	choices, ok := o.Get("enum").([]any)
	if fixed, is := o.Values["const"]; is {
		choices, ok = []any{fixed}, true
	}
	if ok {
		out := Or()
		for _, v := range choices {
			s, isText := v.(string)
			if !isText {
				s = chat.Dumps(v)
			}
			if strings.Contains(s, "</") {
				return nil, &Error{"enum", "a choice has an end tag"}
			}
			out.list = append(out.list, Text(s))
		}
		return out, nil
	}
	if _, ok := o.Values["format"]; ok {
		return nil, &Error{"format", "of an argument it is not supported"}
	}
	lo, hi, err := bounds(o, "minLength", "maxLength")
	if err != nil {
		return nil, err
	}
	return Plain(lo, hi), nil
}

// mayBeText reports whether texts are among what a schema allows.
func mayBeText(o *chat.Object) bool {
	types, _ := typesOf(o)
	if slices.Contains(types, "string") {
		return true
	}
	list, _ := o.Get("anyOf").([]any)
	return slices.ContainsFunc(list, func(v any) bool {
		inner, ok := v.(*chat.Object)
		return ok && mayBeText(inner)
	})
}
