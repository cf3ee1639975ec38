package chat

import (
	"fmt"
	"sort"
	"strings"

	"github.com/glmconv/glmconv/runtime/tokenizer"
)

// starts are the characters with which added tokens of GLM vocabularies begin:
// <|user|>, <think>, [gMASK], /nothink.
const starts = "<[/"

// pickMark finds a private character that occurs nowhere in the input.
func pickMark(source string, req Request) (rune, error) {
	used := map[rune]bool{}
	note := func(s string) {
		for _, c := range s {
			if c >= 0xf0000 {
				used[c] = true
			}
		}
	}
	note(source)
	for _, m := range req.Messages {
		walk(m, note)
	}
	for _, t := range req.Tools {
		walk(t, note)
	}
	for _, v := range req.Extra {
		walk(v, note)
	}
	for c := rune(0xf0000); c < 0xffffe; c++ {
		if !used[c] {
			return c, nil
		}
	}
	return 0, fmt.Errorf("%w: the input uses every private character of plane 15", ErrInvalid)
}

func walk(v any, f func(string)) {
	switch v := v.(type) {
	case string:
		f(v)
	case []any:
		for _, e := range v {
			walk(e, f)
		}
	case *Object:
		for _, k := range v.Keys {
			f(k)
			walk(v.Values[k], f)
		}
	}
}

func markText(s string, mark rune) string {
	if !strings.ContainsAny(s, starts) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		b.WriteRune(c)
		if strings.ContainsRune(starts, c) {
			b.WriteRune(mark)
		}
	}
	return b.String()
}

func markAll(v any, mark rune) any {
	switch v := v.(type) {
	case string:
		return markText(v, mark)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = markAll(v[i], mark)
		}
		return out
	case *Object:
		out := NewObject()
		for _, k := range v.Keys {
			out.Set(markText(k, mark), markAll(v.Values[k], mark))
		}
		return out
	}
	return v
}

// markMessage marks a message. Templates split an assistant's content at
// </think>, so these two tags stay whole there. Arguments of tool calls given
// as JSON text (the OpenAI form) become objects.
func markMessage(m *Object, mark rune) *Object {
	out := markAll(withArguments(m), mark).(*Object)
	if text, ok := m.Get("content").(string); ok && m.Text("role") == "assistant" {
		lt := "<" + string(mark)
		slash := lt + "/" + string(mark)
		out.Set("content", strings.NewReplacer(slash+"think>", "</think>", lt+"think>", "<think>").Replace(markText(text, mark)))
	}
	return out
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

// Encode returns the token ids: markers that the template wrote become their
// added tokens, everything that came from messages and tools is plain text.
func (p Prompt) Encode(tok *tokenizer.Tokenizer) []int {
	added := tok.AddedTokens()
	sort.SliceStable(added, func(i, j int) bool { return len(added[i]) > len(added[j]) })
	var ids []int
	start := 0
	plain := func(end int) {
		if text := strings.ReplaceAll(p.raw[start:end], p.mark, ""); text != "" {
			ids = append(ids, tok.EncodeOrdinary(text)...)
		}
	}
scan:
	for i := 0; i < len(p.raw); {
		if strings.IndexByte(starts, p.raw[i]) >= 0 {
			for _, a := range added {
				if strings.HasPrefix(p.raw[i:], a) {
					plain(i)
					id, _ := tok.AddedID(a)
					ids = append(ids, id)
					i += len(a)
					start = i
					continue scan
				}
			}
		}
		i++
	}
	plain(len(p.raw))
	return ids
}
