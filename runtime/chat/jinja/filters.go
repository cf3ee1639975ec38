package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

type filterFunc func(r *run, v any, args []any, kw []keyword) (any, error)

var filters map[string]filterFunc

func init() {
	method := func(name string) filterFunc {
		return func(r *run, v any, args []any, kw []keyword) (any, error) {
			return textMethods[name](r, str(v), args, kw)
		}
	}
	filters = map[string]filterFunc{
		"tojson": toJSON, "string": func(_ *run, v any, _ []any, _ []keyword) (any, error) { return str(v), nil },
		"safe":  func(_ *run, v any, _ []any, _ []keyword) (any, error) { return str(v), nil },
		"trim":  named([]string{"chars"}, 0, func(r *run, v any, a []any) (any, error) { return textMethods["strip"](r, str(v), known(a), nil) }),
		"upper": method("upper"), "lower": method("lower"), "capitalize": method("capitalize"),
		"title":   func(_ *run, v any, _ []any, _ []keyword) (any, error) { return titleFilter(str(v)), nil },
		"replace": replaceFilter, "escape": escape, "e": escape, "forceescape": escape,
		"center": named([]string{"width"}, 0, func(r *run, v any, a []any) (any, error) {
			n, err := integer(a[0], 80)
			if err != nil {
				return nil, err
			}
			return textMethods["center"](r, str(v), []any{int64(n)}, nil)
		}),
		"length": count, "count": count, "wordcount": func(_ *run, v any, _ []any, _ []keyword) (any, error) {
			return int64(len(str(v).fields(-1))), nil
		},
		"first": end(0), "last": end(-1), "reverse": reverse, "list": listFilter, "items": items, "dictsort": dictSort,
		"default": byDefault, "d": byDefault, "join": join, "sort": sortFilter, "unique": unique, "min": extreme(-1), "max": extreme(1), "sum": sum,
		"map": mapFilter, "select": selector(false, true), "reject": selector(false, false), "selectattr": selector(true, true), "rejectattr": selector(true, false),
		"attr": named([]string{"name"}, 1, func(r *run, v any, a []any) (any, error) { return r.attribute(v, str(a[0]).s) }),
		"int":  intFilter, "float": floatFilter, "abs": abs, "round": round, "indent": indent, "batch": batch,
		"format": func(_ *run, v any, args []any, _ []keyword) (any, error) {
			return percent(str(v), &List{items: args, tuple: true})
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

func count(_ *run, v any, _ []any, _ []keyword) (any, error) {
	n, err := length(v)
	return int64(n), err
}

func end(at int) filterFunc {
	return func(_ *run, v any, _ []any, _ []keyword) (any, error) {
		list, err := iterate(v)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return undefined{"no item of an empty sequence; it"}, nil
		}
		return list[(at+len(list))%len(list)], nil
	}
}

func reverse(r *run, v any, _ []any, _ []keyword) (any, error) {
	if t, ok := v.(Text); ok {
		return r.slice(t, [3]any{nil, nil, int64(-1)})
	}
	list, err := iterate(v)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(list)
	slices.Reverse(out)
	return NewList(out...), r.spend(16 * len(out))
}

func listFilter(r *run, v any, _ []any, _ []keyword) (any, error) {
	list, err := iterate(v)
	return NewList(slices.Clone(list)...), errors.Join(err, r.spend(16*len(list)))
}

func items(_ *run, v any, _ []any, _ []keyword) (any, error) {
	switch v := v.(type) {
	case undefined:
		return NewList(), nil
	case *Dict:
		return pairs(v), nil
	}
	return nil, errors.New("can only get item pairs from a mapping")
}

var byDefault = named([]string{"default_value", "boolean"}, 0, func(_ *run, v any, a []any) (any, error) {
	if !given(v) || given(a[1]) && truth(a[1]) && !truth(v) {
		if !given(a[0]) {
			return Text{}, nil
		}
		return a[0], nil
	}
	return v, nil
})

var replaceFilter = named([]string{"old", "new", "count"}, 2, func(r *run, v any, a []any) (any, error) {
	args := []any{str(a[0]), str(a[1])}
	if given(a[2]) && a[2] != nil {
		args = append(args, a[2])
	}
	return replaceMethod(r, str(v), args, nil)
})

func escape(r *run, v any, _ []any, _ []keyword) (any, error) {
	t := str(v)
	for _, p := range [][2]string{{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {`"`, "&#34;"}} {
		t = t.replace(p[0], Foreign(p[1]), -1)
	}
	return t, r.spend(len(t.s))
}

// titleFilter differs from str.title: words begin after white space and brackets.
func titleFilter(t Text) Text {
	start := true
	return t.mapRunes(func(_ int, r rune) string {
		was := start
		start = isSpace(r) || strings.ContainsRune("-({[<", r)
		if was {
			return strings.ToUpper(string(r))
		}
		return strings.ToLower(string(r))
	})
}

// property makes a function of the attribute argument: a name, a path with
// points, an index, or nothing.
func property(r *run, a any) func(v any) (any, error) {
	if !given(a) || a == nil {
		return func(v any) (any, error) { return v, nil }
	}
	parts := []any{a}
	if t, ok := a.(Text); ok {
		parts = t.split(".", -1)
	}
	return func(v any) (any, error) {
		for _, p := range parts {
			if t, ok := p.(Text); ok {
				if i, err := strconv.ParseInt(t.s, 10, 64); err == nil {
					p = i
				}
			}
			var err error
			if v, err = r.item(v, p); err != nil {
				return nil, err
			}
		}
		return v, nil
	}
}

func each1(r *run, v any, f func(v any) error) error {
	list, err := iterate(v)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := r.step(); err != nil {
			return err
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return r.spend(16 * len(list))
}

var join = named([]string{"d", "attribute"}, 0, func(r *run, v any, a []any) (any, error) {
	sep, of := Text{}, property(r, a[1])
	if given(a[0]) {
		sep = str(a[0])
	}
	var b builder
	first := true
	err := each1(r, v, func(e any) error {
		e, err := of(e)
		if err != nil {
			return err
		}
		if !first {
			b.add(sep)
		}
		first = false
		t := str(e)
		b.add(t)
		return r.spend(len(t.s) + len(sep.s))
	})
	return b.text(), err
})

func mapFilter(r *run, v any, args []any, kw []keyword) (any, error) {
	var f func(e any) (any, error)
	if len(args) == 0 {
		a, err := take([]string{"attribute", "default"}, 1, nil, kw)
		if err != nil {
			return nil, err
		}
		of := property(r, a[0])
		f = func(e any) (any, error) {
			got, err := of(e)
			if err == nil && !given(got) && given(a[1]) {
				return a[1], nil
			}
			return got, err
		}
	} else {
		g, ok := filters[str(args[0]).s]
		if !ok {
			return nil, fmt.Errorf("no filter named %q", str(args[0]).s)
		}
		f = func(e any) (any, error) { return g(r, e, args[1:], kw) }
	}
	out := NewList()
	err := each1(r, v, func(e any) error {
		got, err := f(e)
		out.items = append(out.items, got)
		return err
	})
	return out, err
}

// selector is select, reject, selectattr and rejectattr.
func selector(attribute, want bool) filterFunc {
	return func(r *run, v any, args []any, _ []keyword) (any, error) {
		of := func(v any) (any, error) { return v, nil }
		if attribute {
			if len(args) == 0 {
				return nil, errors.New("missing the name of an attribute")
			}
			of, args = property(r, args[0]), args[1:]
		}
		test := func(v any, _ []any) (bool, error) { return truth(v), nil }
		if len(args) > 0 {
			name := str(args[0]).s
			if !isTest(name) {
				return nil, fmt.Errorf("no test named %q", name)
			}
			test, args = tests[name], args[1:]
		}
		out := NewList()
		err := each1(r, v, func(e any) error {
			got, err := of(e)
			if err != nil {
				return err
			}
			ok, err := test(got, args)
			if ok == want {
				out.items = append(out.items, e)
			}
			return err
		})
		return out, err
	}
}

// folded makes texts comparable without regard to case.
func folded(v any, sensitive any) any {
	if t, ok := v.(Text); ok && !(given(sensitive) && truth(sensitive)) {
		return t.mapRunes(lower)
	}
	return v
}

// ordered sorts values by keys; the first failure to compare is the error.
func ordered(r *run, list []any, key func(v any) (any, error), descending bool) ([]any, error) {
	type pair struct{ key, v any }
	ps := make([]pair, len(list))
	for i, v := range list {
		k, err := key(v)
		if err != nil {
			return nil, err
		}
		ps[i] = pair{k, v}
	}
	var failed error
	slices.SortStableFunc(ps, func(x, y pair) int {
		c, err := compare(x.key, y.key)
		if err == nil {
			err = r.step()
		}
		if failed == nil {
			failed = err
		}
		if descending {
			return -c
		}
		return c
	})
	out := make([]any, len(ps))
	for i, p := range ps {
		out[i] = p.v
	}
	return out, failed
}

var sortFilter = named([]string{"reverse", "case_sensitive", "attribute"}, 0, func(r *run, v any, a []any) (any, error) {
	list, err := iterate(v)
	if err != nil {
		return nil, err
	}
	of := property(r, a[2])
	out, err := ordered(r, list, func(v any) (any, error) {
		k, err := of(v)
		return folded(k, a[1]), err
	}, truth(a[0]))
	return NewList(out...), err
})

var dictSort = named([]string{"case_sensitive", "by", "reverse"}, 0, func(r *run, v any, a []any) (any, error) {
	d, ok := v.(*Dict)
	if !ok {
		return nil, errors.New("dictsort sorts a dict")
	}
	at := 0
	if given(a[1]) && str(a[1]).s == "value" {
		at = 1
	}
	out, err := ordered(r, pairs(d).items, func(v any) (any, error) { return folded(v.(*List).items[at], a[0]), nil }, truth(a[2]))
	return NewList(out...), err
})

var unique = named([]string{"case_sensitive", "attribute"}, 0, func(r *run, v any, a []any) (any, error) {
	of, seen, out := property(r, a[1]), map[any]bool{}, NewList()
	err := each1(r, v, func(e any) error {
		k, err := of(e)
		if err != nil {
			return err
		}
		h, err := hashOf(folded(k, a[0]))
		if err == nil && !seen[h] {
			seen[h] = true
			out.items = append(out.items, e)
		}
		return err
	})
	return out, err
})

func extreme(sign int) filterFunc {
	return named([]string{"case_sensitive", "attribute"}, 0, func(r *run, v any, a []any) (any, error) {
		of := property(r, a[1])
		var best, key any = undefined{"no item of an empty sequence; it"}, nil
		err := each1(r, v, func(e any) error {
			k, err := of(e)
			if err != nil {
				return err
			}
			k = folded(k, a[0])
			if given(best) {
				c, err := compare(k, key)
				if err != nil || c*sign <= 0 {
					return err
				}
			}
			best, key = e, k
			return nil
		})
		return best, err
	})
}

var sum = named([]string{"attribute", "start"}, 0, func(r *run, v any, a []any) (any, error) {
	of := property(r, a[0])
	var total any = int64(0)
	if given(a[1]) {
		total = a[1]
	}
	err := each1(r, v, func(e any) error {
		k, err := of(e)
		if err == nil {
			total, err = r.arithmetic("+", total, k)
		}
		return err
	})
	return total, err
})

var intFilter = named([]string{"default", "base"}, 0, func(_ *run, v any, a []any) (any, error) {
	base, err := integer(a[1], 10)
	if err != nil || base < 2 || base > 36 {
		return nil, errors.New("int: a base from 2 to 36")
	}
	switch v := v.(type) {
	case int64, *big.Int:
		return v, nil
	case bool:
		i, _, _, _ := number(v)
		return i, nil
	case float64:
		if math.Abs(v) < 1<<62 {
			return int64(v), nil
		}
	case Text:
		s := v.strip(nil, true, true).s
		if len(s) > maxBits/4 {
			break
		}
		if i, ok := new(big.Int).SetString(strings.ReplaceAll(s, "_", ""), base); ok {
			return shrink(i), nil
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1<<62 {
			return int64(f), nil
		}
	}
	if given(a[0]) {
		return a[0], nil
	}
	return int64(0), nil
})

var floatFilter = named([]string{"default"}, 0, func(_ *run, v any, a []any) (any, error) {
	if _, f, _, ok := number(v); ok {
		return f, nil
	}
	if t, ok := v.(Text); ok {
		if f, err := strconv.ParseFloat(t.strip(nil, true, true).s, 64); err == nil {
			return f, nil
		}
	}
	if given(a[0]) {
		return a[0], nil
	}
	return 0.0, nil
})

func abs(r *run, v any, _ []any, _ []keyword) (any, error) {
	c, err := compare(v, int64(0))
	if err != nil {
		return nil, err
	}
	if c >= 0 {
		return r.arithmetic("+", int64(0), v)
	}
	return r.arithmetic("-", int64(0), v)
}

var round = named([]string{"precision", "method"}, 0, func(_ *run, v any, a []any) (any, error) {
	_, f, _, ok := number(v)
	if !ok {
		return nil, fmt.Errorf("round: '%s' is no number", typeName(v))
	}
	digits, err := integer(a[0], 0)
	if err != nil || digits < -300 || digits > 300 {
		return nil, errors.New("round: a precision from -300 to 300")
	}
	scale := math.Pow(10, float64(digits))
	method := "common"
	if given(a[1]) {
		method = str(a[1]).s
	}
	switch method {
	case "ceil":
		return math.Ceil(f*scale) / scale, nil
	case "floor":
		return math.Floor(f*scale) / scale, nil
	}
	if digits >= 0 {
		f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'f', digits, 64), 64) // half to even of the exact value
		return f, nil
	}
	return math.RoundToEven(f*scale) / scale, nil
})

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
	t := str(v)
	if err := r.spend(len(t.s) + (1+strings.Count(t.s, "\n"))*len(prefix.s)); err != nil {
		return nil, err
	}
	var b builder
	for i, line := range t.split("\n", -1) {
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

var batch = named([]string{"linecount", "fill_with"}, 1, func(r *run, v any, a []any) (any, error) {
	n, err := integer(a[0], 0)
	if err != nil || n < 1 || n > maxRange {
		return nil, errors.New("batch: a number of items")
	}
	out := NewList()
	var row *List
	err = each1(r, v, func(e any) error {
		if row == nil || len(row.items) == n {
			row = NewList()
			out.items = append(out.items, row)
		}
		row.items = append(row.items, e)
		return nil
	})
	for row != nil && given(a[1]) && a[1] != nil && len(row.items) < n {
		row.items = append(row.items, a[1])
	}
	return out, err
})

// strftime covers the directives that templates use for dates.
func strftime(t time.Time, format string) string {
	return strings.NewReplacer("%Y", t.Format("2006"), "%y", t.Format("06"), "%m", t.Format("01"), "%d", t.Format("02"), "%B", t.Format("January"),
		"%b", t.Format("Jan"), "%A", t.Format("Monday"), "%a", t.Format("Mon"), "%H", t.Format("15"), "%I", t.Format("03"), "%M", t.Format("04"),
		"%S", t.Format("05"), "%p", t.Format("PM"), "%%", "%").Replace(format)
}
