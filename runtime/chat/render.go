package chat

import (
	"encoding/json"
	"math/big"
	"slices"

	"github.com/glmconv/glmconv/runtime/chat/jinja"
)

// Native turns a JSON value, as ParseJSON returns it, into one of the template
// engine, every text foreign.
func Native(v any) any {
	switch v := v.(type) {
	case string:
		return jinja.Foreign(v)
	case int:
		return int64(v)
	case json.Number:
		if i, ok := new(big.Int).SetString(string(v), 10); ok {
			return i
		}
		return jinja.Foreign(string(v))
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = Native(v[i])
		}
		return jinja.NewList(list...)
	case *Object:
		d := jinja.NewDict()
		for _, k := range v.Keys {
			d.SetText(jinja.Foreign(k), Native(v.Values[k]))
		}
		return d
	}
	return v
}

// roles are what the template may make markers of.
var roles = []string{"system", "user", "assistant", "tool", "observation", "developer"}

// message is Native of a message with the words that count as the template's
// own: the role; <think> and </think> in an assistant's content; the switch
// /nothink at the end of a user's text, which GLM-4.5 templates look for.
func message(m *Object) *jinja.Dict {
	role := m.Text("role")
	own := func(text string) jinja.Text {
		switch role {
		case "assistant":
			return jinja.Foreign(text).Own("<think>", "</think>")
		case "user":
			return jinja.Foreign(text).OwnSuffix("/nothink")
		}
		return jinja.Foreign(text)
	}
	d := Native(withArguments(m)).(*jinja.Dict)
	if slices.Contains(roles, role) {
		d.SetText(jinja.Foreign("role"), jinja.Written(role))
	}
	switch content := m.Get("content").(type) {
	case string:
		d.SetText(jinja.Foreign("content"), own(content))
	case []any:
		parts := make([]any, len(content))
		for i, p := range content {
			parts[i] = Native(p)
			switch p := p.(type) {
			case string:
				parts[i] = own(p)
			case *Object:
				if text, ok := p.Get("text").(string); ok {
					parts[i].(*jinja.Dict).SetText(jinja.Foreign("text"), own(text))
				}
			}
		}
		d.SetText(jinja.Foreign("content"), jinja.NewList(parts...))
	}
	return d
}

func withArguments(m *Object) *Object {
	calls, ok := m.Get("tool_calls").([]any)
	if !ok {
		return m
	}
	list := make([]any, len(calls))
	for i, c := range calls {
		list[i] = c
		call, ok := c.(*Object)
		if !ok {
			continue
		}
		call = decodeArguments(call)
		if f, ok := call.Get("function").(*Object); ok {
			call = call.with("function", decodeArguments(f))
		}
		list[i] = call
	}
	return m.with("tool_calls", list)
}

func decodeArguments(o *Object) *Object {
	if text, ok := o.Get("arguments").(string); ok {
		if v, err := ParseJSON([]byte(text)); err == nil {
			if args, ok := v.(*Object); ok {
				return o.with("arguments", args)
			}
		}
	}
	return o
}

// with is a shallow copy with one value replaced.
func (o *Object) with(key string, value any) *Object {
	out := NewObject()
	for _, k := range o.Keys {
		out.Set(k, o.Values[k])
	}
	out.Set(key, value)
	return out
}
