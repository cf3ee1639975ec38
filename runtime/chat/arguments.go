package chat

import (
	"encoding/json"
	"strings"
)

// parameters returns the schema's properties of a tool, or nil.
func parameters(tools []*Object, name string) *Object {
	for _, t := range tools {
		if f, ok := t.Get("function").(*Object); ok {
			t = f
		}
		if t.Text("name") != name {
			continue
		}
		if params, ok := t.Get("parameters").(*Object); ok {
			o, _ := params.Get("properties").(*Object)
			return o
		}
	}
	return nil
}

// types lists the JSON types that a schema allows; none when it does not say.
func types(schema any, depth int) (out []string) {
	o, ok := schema.(*Object)
	if !ok || depth > maxDepth {
		return nil
	}
	switch t := o.Get("type").(type) {
	case string:
		out = append(out, t)
	case []any:
		for _, e := range t {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		if list, ok := o.Get(key).([]any); ok {
			for _, e := range list {
				out = append(out, types(e, depth+1)...)
			}
		}
	}
	return out
}

// typed gives a value its type: a string's bytes are kept when the schema says
// string; otherwise JSON, then a Python literal, then the text as it is.
func typed(text string, schema *Object, key string) any {
	var allowed []string
	if schema != nil {
		allowed = types(schema.Get(key), 0)
	}
	mayString, other := false, false
	for _, t := range allowed {
		if t == "string" {
			mayString = true
		} else {
			other = true
		}
	}
	if mayString && !other {
		return text
	}
	trimmed := strings.TrimSpace(text)
	v, err := ParseJSON([]byte(trimmed))
	if err != nil {
		v, err = ParseJSON([]byte(fromPython(trimmed)))
	}
	if err != nil || mayString && !matches(v, allowed) {
		return text
	}
	return v
}

func matches(v any, allowed []string) bool {
	kind := ""
	switch v.(type) {
	case nil:
		kind = "null"
	case bool:
		kind = "boolean"
	case int64, json.Number:
		kind = "integer"
	case float64:
		kind = "number"
	case []any:
		kind = "array"
	case *Object:
		kind = "object"
	}
	for _, t := range allowed {
		if t == kind || t == "number" && kind == "integer" {
			return true
		}
	}
	return false
}

// fromPython rewrites a Python literal as JSON: quotes, True, False, None.
func fromPython(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if q := s[i]; q == '\'' || q == '"' {
			var text strings.Builder
			for i++; i < len(s) && s[i] != q; i++ {
				if s[i] == '\\' && i+1 < len(s) {
					i++
					switch s[i] {
					case 'n':
						text.WriteByte('\n')
						continue
					case 't':
						text.WriteByte('\t')
						continue
					}
				}
				text.WriteByte(s[i])
			}
			i++
			b.WriteString(Dumps(text.String()))
			continue
		}
		replaced := false
		for _, w := range [][2]string{{"True", "true"}, {"False", "false"}, {"None", "null"}} {
			if strings.HasPrefix(s[i:], w[0]) {
				b.WriteString(w[1])
				i += len(w[0])
				replaced = true
				break
			}
		}
		if !replaced {
			b.WriteByte(s[i])
			i++
		}
	}
	return b.String()
}
