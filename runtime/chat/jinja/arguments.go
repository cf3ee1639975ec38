package jinja

import (
	"fmt"
)

// take fills parameters from positional and named arguments; absent ones are
// undefined.
func take(names []string, required int, args []any, kw []keyword) ([]any, error) {
	if len(args) > len(names) {
		return nil, fmt.Errorf("takes at most %d arguments, %d given", len(names), len(args))
	}
	out := make([]any, len(names))
	for i := range out {
		out[i] = undefined{names[i]}
	}
	copy(out, args)
	for _, k := range kw {
		found := false
		for i, n := range names {
			if n == k.name {
				out[i], found = k.value, true
			}
		}
		if !found {
			return nil, fmt.Errorf("got an unexpected keyword argument '%s'", brief(k.name))
		}
	}
	for i := range required {
		if _, ok := out[i].(undefined); ok && i >= len(args) {
			return nil, fmt.Errorf("missing argument '%s'", names[i])
		}
	}
	return out, nil
}

func given(v any) bool { _, no := v.(undefined); return !no }

// integer reads an argument with a default.
func integer(v any, absent int) (int, error) {
	if !given(v) {
		return absent, nil
	}
	i, _, isInt, ok := number(v)
	if !ok || !isInt {
		return 0, fmt.Errorf("'%s' object cannot be interpreted as an integer", typeName(v))
	}
	return int(min(max(i, -1<<31), 1<<31)), nil
}

func wantText(v any) (Text, error) {
	t, ok := v.(Text)
	if !ok {
		return t, fmt.Errorf("expected str, found %s", typeName(v))
	}
	return t, nil
}
