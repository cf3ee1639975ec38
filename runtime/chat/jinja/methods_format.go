package jinja

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// formatMethod is str.format with {}, {0} and {name}, without format specs.
func formatMethod(r *run, t Text, args []any, kw []keyword) (any, error) {
	if err := cmp.Or(r.decode(len(t.s)), r.spend(len(t.s))); err != nil {
		return nil, err
	}
	var b builder
	auto, manual := 0, false
	for i := 0; i < len(t.s); {
		switch c := t.s[i]; {
		case (c == '{' || c == '}') && i+1 < len(t.s) && t.s[i+1] == c:
			b.add(t.Cut(i, i+1))
			i += 2
		case c == '{':
			end := strings.IndexByte(t.s[i:], '}')
			if end < 0 {
				return nil, errors.New("expected '}' before end of string")
			}
			field := t.s[i+1 : i+end]
			if field == "" {
				field = fmt.Sprint(auto)
				auto++
			} else if field[0] >= '0' && field[0] <= '9' {
				manual = true
			}
			if manual && auto > 0 {
				return nil, errors.New("cannot mix automatic and numbered fields")
			}
			v, err := formatField(field, args, kw)
			if err != nil {
				return nil, err
			}
			text := r.str(v)
			if err := cmp.Or(r.work(1+len(kw)), r.spend(len(text.s))); err != nil {
				return nil, err
			}
			b.add(text)
			i += end + 1
		case c == '}':
			return nil, errors.New("single '}' encountered in format string")
		default:
			n := strings.IndexAny(t.s[i:], "{}")
			if n < 0 {
				n = len(t.s) - i
			}
			b.add(t.Cut(i, i+n))
			i += n
		}
	}
	return b.text(), nil
}

func formatField(field string, args []any, kw []keyword) (any, error) {
	if len(field) < 20 {
		if n, err := strconv.Atoi(field); err == nil && strconv.Itoa(n) == field {
			if n < 0 || n >= len(args) {
				return nil, errors.New("replacement index out of range")
			}
			return args[n], nil
		}
	}
	for _, k := range kw {
		if k.name == field {
			return k.value, nil
		}
	}
	return nil, fmt.Errorf("format field %q is not supported", brief(field))
}
