package jinja

import (
	"errors"
	"strings"
)

// Methods that put texts together and take them apart.

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
	return r.replace(t, from.s, to, n), r.err
}

func joinMethod(r *run, t Text, args []any) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("join takes one argument")
	}
	items, err := r.iterate(args[0])
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
		if size += len(part.s) + len(t.s); size > maxText || r.work(1+len(t.s)/scanned) != nil {
			return nil, r.spend(size)
		}
		if i > 0 {
			b.add(t)
		}
		b.add(part)
	}
	return b.text(), r.spend(size)
}

func (r *run) splitLines(t Text) *List {
	out := NewList()
	if r.decode(len(t.s)) != nil {
		return out
	}
	for t.s != "" && r.part() {
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

func (r *run) remove(t Text, args []any, prefix bool) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("takes one argument")
	}
	part, err := wantText(args[0])
	if err != nil {
		return nil, err
	}
	if err := r.scan(min(len(t.s), len(part.s))); err != nil {
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
