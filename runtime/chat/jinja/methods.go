package jinja

import (
	"errors"
	"strings"
	"unicode"
)

type textMethod func(r *run, t Text, args []any, kw []keyword) (any, error)

func stripper(left, right bool) textMethod {
	return func(r *run, t Text, args []any, _ []keyword) (any, error) {
		var chars *Text
		if len(args) > 0 && args[0] != nil {
			c, err := wantText(args[0])
			if err == nil {
				err = r.decode(8 * len(c.s)) // a set is made of them
			}
			if err != nil {
				return nil, err
			}
			chars = &c
		}
		out := t.strip(chars, left, right)
		return out, r.decode(len(t.s) - len(out.s))
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
			return NewList(r.fields(t, n)...), r.err
		}
		sep, err := wantText(a[0])
		if err != nil {
			return nil, err
		}
		if sep.s == "" {
			return nil, errors.New("empty separator")
		}
		cut := r.split
		if right {
			cut = r.rsplit
		}
		return NewList(cut(t, sep.s, n)...), r.err
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
	if err := r.scan(len(t.s)); err != nil {
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
			if err == nil {
				err = r.work(1 + len(part.s)/scanned)
			}
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
func finder(index func(r *run, s, part string) int, must bool) textMethod {
	return func(r *run, t Text, args []any, _ []keyword) (any, error) {
		t, from, err := window(r, t, args)
		if err != nil {
			return nil, err
		}
		part, err := wantText(args[0])
		if err != nil {
			return nil, err
		}
		i := index(r, t.s, part.s)
		if i < 0 {
			if must {
				return nil, errors.New("substring not found")
			}
			return int64(-1), nil
		}
		if err := r.scan(i); err != nil {
			return nil, err
		}
		return int64(from + t.Cut(0, i).runes()), nil
	}
}

func mapper(f func(i int, c rune) rune) textMethod {
	return func(r *run, t Text, _ []any, _ []keyword) (any, error) { return r.mapRunes(t, f), r.err }
}

func upper(_ int, c rune) rune { return unicode.ToUpper(c) }
func lower(_ int, c rune) rune { return unicode.ToLower(c) }

func capital(i int, c rune) rune {
	if i == 0 {
		return unicode.ToUpper(c)
	}
	return unicode.ToLower(c)
}

// titled is str.title: letters after a character that is not a letter.
func titled(r *run, t Text, _ []any, _ []keyword) (any, error) {
	start := true
	return r.mapRunes(t, func(_ int, c rune) rune {
		was := start
		start = !unicode.IsLetter(c)
		if was {
			return unicode.ToTitle(c)
		}
		return unicode.ToLower(c)
	}), r.err
}

func each(f func(rune) bool) textMethod {
	return func(r *run, t Text, _ []any, _ []keyword) (any, error) {
		if err := r.decode(len(t.s)); err != nil {
			return nil, err
		}
		return t.s != "" && strings.IndexFunc(t.s, func(c rune) bool { return !f(c) }) < 0, nil
	}
}

// cased is isupper or islower.
func cased(want func(rune) bool, other func(rune) bool) textMethod {
	return func(r *run, t Text, _ []any, _ []keyword) (any, error) {
		if err := r.decode(2 * len(t.s)); err != nil {
			return nil, err
		}
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
		if err := r.scan(len(t.s)); err != nil {
			return nil, err
		}
		n := width - t.runes()
		if n <= 0 {
			return t, nil
		}
		if err := r.repeat(int64(n), len(with)); err != nil {
			return nil, err
		}
		if err := r.spend(len(t.s)); err != nil {
			return nil, err
		}
		before := 0
		switch {
		case left && right:
			before = n/2 + n&width&1
		case left:
			before = n
		}
		return concat(Written(strings.Repeat(with, before)), t, Written(strings.Repeat(with, n-before))), nil
	}
}

var textMethods map[string]textMethod

func init() {
	textMethods = map[string]textMethod{
		"strip": stripper(true, true), "lstrip": stripper(true, false), "rstrip": stripper(false, true),
		"split": splitter(false), "rsplit": splitter(true),
		"startswith": affix(strings.HasPrefix), "endswith": affix(strings.HasSuffix),
		"find": finder((*run).index, false), "index": finder((*run).index, true),
		"rfind": finder((*run).lastIndex, false), "rindex": finder((*run).lastIndex, true),
		"upper": mapper(upper), "lower": mapper(lower), "casefold": mapper(lower), "capitalize": mapper(capital),
		"isspace": each(isSpace), "isdigit": each(unicode.IsDigit), "isdecimal": each(unicode.IsDigit), "isnumeric": each(unicode.IsNumber),
		"isalpha": each(unicode.IsLetter), "isalnum": each(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }),
		"isupper": cased(unicode.IsUpper, unicode.IsLower), "islower": cased(unicode.IsLower, unicode.IsUpper),
		"ljust": aligner(false, true, " "), "rjust": aligner(true, false, " "), "center": aligner(true, true, " "),
		"title": titled,
		"zfill": func(r *run, t Text, args []any, kw []keyword) (any, error) {
			if t.s != "" && (t.s[0] == '-' || t.s[0] == '+') && len(args) > 0 {
				if n, _, _, ok := number(args[0]); ok {
					v, err := aligner(true, false, "0")(r, t.Cut(1, len(t.s)), []any{n - 1}, nil)
					if err != nil {
						return nil, err
					}
					return concat(t.Cut(0, 1), v.(Text)), nil
				}
			}
			return aligner(true, false, "0")(r, t, args, kw)
		},
		"replace":      replaceMethod,
		"join":         func(r *run, t Text, args []any, _ []keyword) (any, error) { return joinMethod(r, t, args) },
		"splitlines":   func(r *run, t Text, _ []any, _ []keyword) (any, error) { return r.splitLines(t), r.err },
		"removeprefix": func(r *run, t Text, args []any, _ []keyword) (any, error) { return r.remove(t, args, true) },
		"removesuffix": func(r *run, t Text, args []any, _ []keyword) (any, error) { return r.remove(t, args, false) },
		"count": func(r *run, t Text, args []any, _ []keyword) (any, error) {
			t, _, err := window(r, t, args)
			if err != nil {
				return nil, err
			}
			part, err := wantText(args[0])
			if err != nil {
				return nil, err
			}
			return int64(r.occurrences(t.s, part.s, -1)), r.err
		},
		"partition": func(r *run, t Text, args []any, _ []keyword) (any, error) { return partition(t, args, r.index) },
		"rpartition": func(r *run, t Text, args []any, _ []keyword) (any, error) {
			return partition(t, args, r.lastIndex)
		},
		"format": formatMethod,
	}
}
