package companion

import (
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// rule says what a key means for answers.
type rule struct {
	why     string // what it changes; "" for nothing
	absent  string // canonical JSON that an absent key and null mean; "" if there is no such value
	compare func(a, b any) bool
}

// rules are what is known of the keys of a file, by path.
type rules struct {
	keys    map[string]rule
	unknown func(path string, a, b any) (why string) // what a difference in another key changes; "" for nothing
	ignore  map[string]bool                          // keys that say nothing of the model: no difference at all
}

// compare lists the differences of two objects of a file, by path.
func (r rules) compare(file string, a, b object) (out []Difference) {
	x, y := map[string]any{}, map[string]any{}
	flatten(x, "", a)
	flatten(y, "", b)
	for _, path := range paths(x, y) {
		if r.ignore[path] {
			continue
		}
		u, v := x[path], y[path]
		k, known := r.keys[path]
		if same(u, v, k) {
			continue
		}
		d := Difference{File: file, Path: path, Source: text(x, path), Result: text(y, path), Why: k.why}
		if !known && r.unknown != nil {
			d.Why = r.unknown(path, u, v)
		}
		d.Matters = d.Why != ""
		out = append(out, d)
	}
	return out
}

// same compares two values, nil where a key is absent.
func same(a, b any, k rule) bool {
	if k.compare != nil && a != nil && b != nil {
		return k.compare(a, b)
	}
	x, y := canonical(a), canonical(b)
	if k.absent != "" {
		if x == "null" {
			x = k.absent
		}
		if y == "null" {
			y = k.absent
		}
	}
	return x == y
}

// flatten collects the values of nested objects by path; arrays are values.
func flatten(out map[string]any, prefix string, o map[string]any) {
	for key, v := range o {
		path := prefix + key
		switch v := v.(type) {
		case map[string]any:
			flatten(out, path+".", v)
			if len(v) == 0 {
				out[path] = nil // as good as absent
			}
		default:
			out[path] = v
		}
	}
}

// paths are the keys of both maps, sorted.
func paths(a, b map[string]any) []string {
	var list []string
	for k := range a {
		list = append(list, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	return list
}

// canonical is a value as JSON in one spelling: 1, 1.0 and 1e0 are equal, keys
// are sorted.
func canonical(v any) string {
	raw, err := json.Marshal(normal(v))
	if err != nil {
		return ""
	}
	return string(raw)
}

func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		if r, ok := rational(v.String()); ok {
			return r
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = normal(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = normal(v[k])
		}
		return out
	}
	return v
}

// rational spells a number exactly: 0.5 and 5e-1 are "1/2". Exponents are
// bounded, so that a short text cannot stand for a large number.
func rational(s string) (string, bool) {
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if e, err := strconv.Atoi(s[i+1:]); err != nil || e > 400 || e < -400 {
			return "", false
		}
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return "", false
	}
	return "#" + r.RatString(), true
}

// text shows the value under a path, shortened.
func text(m map[string]any, path string) string {
	v, ok := m[path]
	if !ok {
		return absent
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // tokens are <|words|>
	if err := e.Encode(v); err != nil {
		return absent
	}
	return short(strings.TrimSuffix(b.String(), "\n"))
}

// short cuts a text for a report.
func short(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// asSet compares two values as sets: a single value is a set of one.
func asSet(a, b any) bool {
	x, y := setOf(a), setOf(b)
	return slices.Equal(x, y)
}

func setOf(v any) []string {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	out := make([]string, 0, len(list))
	for _, e := range list {
		out = append(out, canonical(e))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// tokenText is a token that is given as text or as an object with a content.
func tokenText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		s, _ := v["content"].(string)
		return s
	}
	return ""
}
