package jinja

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
)

type filterFunc func(r *run, v any, args []any, kw []keyword) (any, error)

var filters map[string]filterFunc

func init() {
	method := func(name string) filterFunc {
		return func(r *run, v any, args []any, kw []keyword) (any, error) {
			return textMethods[name](r, r.str(v), args, kw)
		}
	}
	filters = map[string]filterFunc{
		"tojson": toJSON, "string": func(r *run, v any, _ []any, _ []keyword) (any, error) { return r.str(v), nil },
		"safe":  func(r *run, v any, _ []any, _ []keyword) (any, error) { return r.str(v), nil },
		"trim":  named([]string{"chars"}, 0, func(r *run, v any, a []any) (any, error) { return textMethods["strip"](r, r.str(v), known(a), nil) }),
		"upper": method("upper"), "lower": method("lower"), "capitalize": method("capitalize"),
		"title":   func(r *run, v any, _ []any, _ []keyword) (any, error) { return titleFilter(r, r.str(v)), r.err },
		"replace": replaceFilter, "escape": escape, "e": escape, "forceescape": escape,
		"center": named([]string{"width"}, 0, func(r *run, v any, a []any) (any, error) {
			n, err := integer(a[0], 80)
			if err != nil {
				return nil, err
			}
			return textMethods["center"](r, r.str(v), []any{int64(n)}, nil)
		}),
		"length": count, "count": count, "wordcount": func(r *run, v any, _ []any, _ []keyword) (any, error) {
			return int64(len(r.fields(r.str(v), -1))), r.err
		},
		"first": end(0), "last": end(-1), "reverse": reverse, "list": listFilter, "items": items, "dictsort": dictSort,
		"default": byDefault, "d": byDefault, "join": join, "sort": sortFilter, "unique": unique, "min": extreme(-1), "max": extreme(1), "sum": sum,
		"map": mapFilter, "select": selector(false, true), "reject": selector(false, false), "selectattr": selector(true, true),
		"rejectattr": selector(true, false),
		"attr":       named([]string{"name"}, 1, func(r *run, v any, a []any) (any, error) { return r.attribute(v, r.str(a[0]).s) }),
		"int":        intFilter, "float": floatFilter, "abs": abs, "round": round, "indent": indent, "batch": batch,
		"format": func(r *run, v any, args []any, _ []keyword) (any, error) {
			return r.percent(r.str(v), &List{items: args, tuple: true})
		},
	}
}

// named gives a filter its parameters in order, absent ones undefined.
func named(names []string, required int, f func(r *run, v any, a []any) (any, error)) filterFunc {
	return func(r *run, v any, args []any, kw []keyword) (any, error) {
		a, err := take(names, required, args, kw)
		if err != nil {
			return nil, err
		}
		return f(r, v, a)
	}
}

// known drops absent arguments at the end.
func known(a []any) []any {
	for len(a) > 0 && !given(a[len(a)-1]) {
		a = a[:len(a)-1]
	}
	return a
}

func count(r *run, v any, _ []any, _ []keyword) (any, error) {
	n, err := r.length(v)
	return int64(n), err
}

func end(at int) filterFunc {
	return func(r *run, v any, _ []any, _ []keyword) (any, error) {
		none := undefined{"no item of an empty sequence; it"}
		if t, ok := v.(Text); ok && t.s != "" {
			return r.item(t, int64(at))
		}
		list, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return none, nil
		}
		return list[(at+len(list))%len(list)], nil
	}
}

func reverse(r *run, v any, _ []any, _ []keyword) (any, error) {
	if t, ok := v.(Text); ok {
		return r.slice(t, [3]any{nil, nil, int64(-1)})
	}
	list, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	if err := r.spend(itemBytes * len(list)); err != nil {
		return nil, err
	}
	out := slices.Clone(list)
	slices.Reverse(out)
	return NewList(out...), nil
}

func listFilter(r *run, v any, _ []any, _ []keyword) (any, error) {
	list, err := r.iterate(v)
	if err == nil {
		err = r.spend(itemBytes * len(list))
	}
	if err != nil {
		return nil, err
	}
	return NewList(slices.Clone(list)...), nil
}

func items(r *run, v any, _ []any, _ []keyword) (any, error) {
	switch v := v.(type) {
	case undefined:
		return NewList(), nil
	case *Dict:
		return r.pairs(v), r.err
	}
	return nil, errors.New("can only get item pairs from a mapping")
}

var byDefault = named([]string{"default_value", "boolean"}, 0, func(r *run, v any, a []any) (any, error) {
	if !given(v) || given(a[1]) && truth(a[1]) && !truth(v) {
		if !given(a[0]) {
			return Text{}, nil
		}
		return a[0], nil
	}
	return v, nil
})

var replaceFilter = named([]string{"old", "new", "count"}, 2, func(r *run, v any, a []any) (any, error) {
	args := []any{r.str(a[0]), r.str(a[1])}
	if given(a[2]) && a[2] != nil {
		args = append(args, a[2])
	}
	return replaceMethod(r, r.str(v), args, nil)
})

func escape(r *run, v any, _ []any, _ []keyword) (any, error) {
	t := r.str(v)
	for _, p := range [][2]string{{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {`"`, "&#34;"}} {
		t = r.replace(t, p[0], Foreign(p[1]), -1)
	}
	return t, r.err
}

// titleFilter differs from str.title: words begin after white space and brackets.
func titleFilter(r *run, t Text) Text {
	start := true
	return r.mapRunes(t, func(_ int, c rune) rune {
		was := start
		start = isSpace(c) || strings.ContainsRune("-({[<", c)
		if was {
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	})
}

var indent = named([]string{"width", "first", "blank"}, 0, func(r *run, v any, a []any) (any, error) {
	prefix := Written("    ")
	switch w := a[0].(type) {
	case undefined:
	case Text:
		prefix = w
	default:
		n, err := integer(w, 4)
		if err != nil {
			return nil, err
		}
		prefix = Written(strings.Repeat(" ", min(max(n, 0), 1024)))
	}
	t := r.str(v)
	lines := r.split(t, "\n", -1)
	if err := r.spend(len(t.s) + len(lines)*len(prefix.s)); err != nil {
		return nil, err
	}
	var b builder
	for i, line := range lines {
		if i > 0 {
			b.add(Written("\n"))
		}
		if line := line.(Text); (i > 0 || truth(a[1])) && (line.s != "" || truth(a[2])) {
			b.add(prefix)
		}
		b.add(line.(Text))
	}
	return b.text(), nil
})

// strftime covers the directives that templates use for dates.
func strftime(t time.Time, format string) string {
	return strings.NewReplacer("%Y", t.Format("2006"), "%y", t.Format("06"), "%m", t.Format("01"), "%d", t.Format("02"), "%B", t.Format("January"),
		"%b", t.Format("Jan"), "%A", t.Format("Monday"), "%a", t.Format("Mon"), "%H", t.Format("15"), "%I", t.Format("03"), "%M", t.Format("04"),
		"%S", t.Format("05"), "%p", t.Format("PM"), "%%", "%").Replace(format)
}
