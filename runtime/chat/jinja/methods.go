package jinja

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

type textMethod func(r *run, t Text, args []any, kw []keyword) (any, error)

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
			return nil, fmt.Errorf("got an unexpected keyword argument '%s'", k.name)
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

func stripper(left, right bool) textMethod {
	return func(_ *run, t Text, args []any, _ []keyword) (any, error) {
		if len(args) == 0 || args[0] == nil {
			return t.strip(nil, left, right), nil
		}
		chars, err := wantText(args[0])
		return t.strip(&chars, left, right), err
	}
}

func splitter(right bool) textMethod {
	return func(r *run, t Text, args []any, kw []keyword) (any, error) {
		a, err := take([]string{"sep", "maxsplit"}, 0, args, kw)
		if err != nil {
			return nil, err
		}
		n, err := integer(a[1], -1)
		if err != nil {
			return nil, err
		}
		if !given(a[0]) || a[0] == nil {
			if right && n >= 0 {
				return nil, errors.New("rsplit with maxsplit needs a separator")
			}
			return NewList(t.fields(n)...), r.spend(len(t.s))
		}
		sep, err := wantText(a[0])
		if err != nil {
			return nil, err
		}
		if sep.s == "" {
			return nil, errors.New("empty separator")
		}
		cut := t.split
		if right {
			cut = t.rsplit
		}
		return NewList(cut(sep.s, n)...), r.spend(len(t.s))
	}
}

// window is the part of a text that the arguments after the first ask for, and
// the position at which it begins.
func window(r *run, t Text, args []any) (Text, int, error) {
	if len(args) < 1 || len(args) > 3 {
		return t, 0, errors.New("takes a text, a start and an end")
	}
	bounds := [3]any{}
	copy(bounds[:2], args[1:])
	v, err := r.slice(t, bounds)
	if err != nil || len(args) == 1 || args[1] == nil {
		return t, 0, err
	}
	n, from := t.runes(), 0
	if i, _, _, _ := number(args[1]); i < 0 {
		from = max(n+int(i), 0)
	} else {
		from = int(min(i, int64(n)))
	}
	if i, _, _, _ := number(args[1]); i > int64(n) {
		return Text{}, 0, nil
	}
	return v.(Text), from, nil
}

// affix is startswith or endswith: one text or a tuple of them.
func affix(has func(s, part string) bool) textMethod {
	return func(r *run, t Text, args []any, _ []keyword) (any, error) {
		t, _, err := window(r, t, args)
		if err != nil {
			return nil, err
		}
		list := args[:1]
		if l, ok := args[0].(*List); ok && l.tuple {
			list = l.items
		}
		for _, v := range list {
			part, err := wantText(v)
			if err != nil {
				return nil, err
			}
			if has(t.s, part.s) {
				return true, nil
			}
		}
		return false, nil
	}
}

// finder is find and index, or rfind and rindex.
func finder(index func(s, part string) int, must bool) textMethod {
	return func(r *run, t Text, args []any, _ []keyword) (any, error) {
		t, from, err := window(r, t, args)
		if err != nil {
			return nil, err
		}
		part, err := wantText(args[0])
		if err != nil {
			return nil, err
		}
		i := index(t.s, part.s)
		if i < 0 {
			if must {
				return nil, errors.New("substring not found")
			}
			return int64(-1), nil
		}
		return int64(from + t.Cut(0, i).runes()), nil
	}
}

func mapper(f func(i int, r rune) string) textMethod {
	return func(r *run, t Text, _ []any, _ []keyword) (any, error) { return t.mapRunes(f), r.spend(len(t.s)) }
}

func upper(_ int, r rune) string { return strings.ToUpper(string(r)) }
func lower(_ int, r rune) string { return strings.ToLower(string(r)) }

func capital(i int, r rune) string {
	if i == 0 {
		return strings.ToUpper(string(r))
	}
	return strings.ToLower(string(r))
}

// titled is str.title: letters after a character that is no letter.
func titled(t Text) Text {
	start := true
	return t.mapRunes(func(_ int, r rune) string {
		was := start
		start = !unicode.IsLetter(r)
		if was {
			return strings.ToTitle(string(r))
		}
		return strings.ToLower(string(r))
	})
}

func each(f func(rune) bool) textMethod {
	return func(_ *run, t Text, _ []any, _ []keyword) (any, error) {
		return t.s != "" && strings.IndexFunc(t.s, func(r rune) bool { return !f(r) }) < 0, nil
	}
}

// cased is isupper or islower.
func cased(want func(rune) bool, other func(rune) bool) textMethod {
	return func(_ *run, t Text, _ []any, _ []keyword) (any, error) {
		return strings.IndexFunc(t.s, want) >= 0 && strings.IndexFunc(t.s, other) < 0, nil
	}
}

// aligner is ljust, rjust, center and zfill.
func aligner(left, right bool, fill string) textMethod {
	return func(r *run, t Text, args []any, _ []keyword) (any, error) {
		if len(args) == 0 {
			return nil, errors.New("a width is missing")
		}
		width, err := integer(args[0], 0)
		if err != nil {
			return nil, err
		}
		with := fill
		if len(args) > 1 {
			c, err := wantText(args[1])
			if err != nil {
				return nil, err
			}
			with = c.s
		}
		n := width - t.runes()
		if n <= 0 {
			return t, nil
		}
		if err := r.repeat(int64(n), len(with)); err != nil {
			return nil, err
		}
		before := 0
		switch {
		case left && right:
			before = n/2 + n&width&1
		case left:
			before = n
		}
		return concat([]any{Written(strings.Repeat(with, before)), t, Written(strings.Repeat(with, n-before))}), nil
	}
}

var textMethods map[string]textMethod

func init() {
	textMethods = map[string]textMethod{
		"strip": stripper(true, true), "lstrip": stripper(true, false), "rstrip": stripper(false, true),
		"split": splitter(false), "rsplit": splitter(true),
		"startswith": affix(strings.HasPrefix), "endswith": affix(strings.HasSuffix),
		"find": finder(strings.Index, false), "index": finder(strings.Index, true),
		"rfind": finder(strings.LastIndex, false), "rindex": finder(strings.LastIndex, true),
		"upper": mapper(upper), "lower": mapper(lower), "casefold": mapper(lower), "capitalize": mapper(capital),
		"isspace": each(isSpace), "isdigit": each(unicode.IsDigit), "isdecimal": each(unicode.IsDigit), "isnumeric": each(unicode.IsNumber),
		"isalpha": each(unicode.IsLetter), "isalnum": each(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }),
		"isupper": cased(unicode.IsUpper, unicode.IsLower), "islower": cased(unicode.IsLower, unicode.IsUpper),
		"ljust": aligner(false, true, " "), "rjust": aligner(true, false, " "), "center": aligner(true, true, " "),
		"title": func(r *run, t Text, _ []any, _ []keyword) (any, error) { return titled(t), r.spend(len(t.s)) },
		"zfill": func(r *run, t Text, args []any, kw []keyword) (any, error) {
			if t.s != "" && (t.s[0] == '-' || t.s[0] == '+') && len(args) > 0 {
				if n, _, _, ok := number(args[0]); ok {
					v, err := aligner(true, false, "0")(r, t.Cut(1, len(t.s)), []any{n - 1}, nil)
					return concat([]any{t.Cut(0, 1), v}), err
				}
			}
			return aligner(true, false, "0")(r, t, args, kw)
		},
		"replace":      replaceMethod,
		"join":         func(r *run, t Text, args []any, _ []keyword) (any, error) { return joinMethod(r, t, args) },
		"splitlines":   func(r *run, t Text, _ []any, _ []keyword) (any, error) { return splitLines(t), r.spend(len(t.s)) },
		"removeprefix": func(_ *run, t Text, args []any, _ []keyword) (any, error) { return remove(t, args, true) },
		"removesuffix": func(_ *run, t Text, args []any, _ []keyword) (any, error) { return remove(t, args, false) },
		"count": func(r *run, t Text, args []any, _ []keyword) (any, error) {
			t, _, err := window(r, t, args)
			if err != nil {
				return nil, err
			}
			part, err := wantText(args[0])
			return int64(strings.Count(t.s, part.s)), err
		},
		"partition": func(_ *run, t Text, args []any, _ []keyword) (any, error) { return partition(t, args, strings.Index) },
		"rpartition": func(_ *run, t Text, args []any, _ []keyword) (any, error) {
			return partition(t, args, strings.LastIndex)
		},
		"format": formatMethod,
	}
}

func replaceMethod(r *run, t Text, args []any, kw []keyword) (any, error) {
	a, err := take([]string{"old", "new", "count"}, 2, args, kw)
	if err != nil {
		return nil, err
	}
	from, err := wantText(a[0])
	if err != nil {
		return nil, err
	}
	to, err := wantText(a[1])
	if err != nil {
		return nil, err
	}
	n, err := integer(a[2], -1)
	if err != nil {
		return nil, err
	}
	// The result is bounded before it is made.
	if err := r.spend(len(t.s) + strings.Count(t.s, from.s)*len(to.s)); err != nil {
		return nil, err
	}
	return t.replace(from.s, to, n), nil
}

func joinMethod(r *run, t Text, args []any) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("join takes one argument")
	}
	items, err := iterate(args[0])
	if err != nil {
		return nil, err
	}
	size := 0
	var b builder
	for i, v := range items {
		part, err := wantText(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.add(t)
		}
		b.add(part)
		if size += len(part.s) + len(t.s); size > maxText {
			return nil, r.spend(size)
		}
	}
	return b.text(), r.spend(size)
}

func splitLines(t Text) *List {
	out := NewList()
	for t.s != "" {
		i := strings.IndexFunc(t.s, func(r rune) bool {
			return r >= '\n' && r <= '\r' || r >= 0x1c && r <= 0x1e || r == 0x85 || r == 0x2028 || r == 0x2029
		})
		if i < 0 {
			out.items = append(out.items, t)
			break
		}
		out.items = append(out.items, t.Cut(0, i))
		end := i + len(t.chars1(i))
		if strings.HasPrefix(t.s[i:], "\r\n") {
			end = i + 2
		}
		t = t.Cut(end, len(t.s))
	}
	return out
}

// chars1 is the character at byte i.
func (t Text) chars1(i int) string {
	for _, r := range t.s[i:] {
		return string(r)
	}
	return ""
}

func remove(t Text, args []any, prefix bool) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("takes one argument")
	}
	part, err := wantText(args[0])
	if err != nil {
		return nil, err
	}
	if prefix && strings.HasPrefix(t.s, part.s) {
		return t.Cut(len(part.s), len(t.s)), nil
	}
	if !prefix && strings.HasSuffix(t.s, part.s) {
		return t.Cut(0, len(t.s)-len(part.s)), nil
	}
	return t, nil
}

func partition(t Text, args []any, index func(s, sep string) int) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("takes one argument")
	}
	sep, err := wantText(args[0])
	if err != nil {
		return nil, err
	}
	if sep.s == "" {
		return nil, errors.New("empty separator")
	}
	i := index(t.s, sep.s)
	if i < 0 {
		return &List{items: []any{t, Text{}, Text{}}, tuple: true}, nil
	}
	return &List{items: []any{t.Cut(0, i), t.Cut(i, i+len(sep.s)), t.Cut(i+len(sep.s), len(t.s))}, tuple: true}, nil
}

// formatMethod is str.format with {}, {0} and {name}, without format specs.
func formatMethod(r *run, t Text, args []any, kw []keyword) (any, error) {
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
			b.add(str(v))
			i += end + 1
		case c == '}':
			return nil, errors.New("single '}' encountered in format string")
		default:
			b.add(t.Cut(i, i+1))
			i++
		}
		if b.s.Len() > maxText {
			return nil, r.spend(b.s.Len())
		}
	}
	return b.text(), nil
}

func formatField(field string, args []any, kw []keyword) (any, error) {
	var n int
	if _, err := fmt.Sscanf(field+" ", "%d ", &n); err == nil && fmt.Sprint(n) == field {
		if n < 0 || n >= len(args) {
			return nil, errors.New("replacement index out of range")
		}
		return args[n], nil
	}
	for _, k := range kw {
		if k.name == field {
			return k.value, nil
		}
	}
	return nil, fmt.Errorf("format field %q is not supported", field)
}
