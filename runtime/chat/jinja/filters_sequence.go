package jinja

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
)

// Filters that work on the items of a sequence.

// property makes a function of the attribute argument: a name, a path with
// points, an index, or nothing.
func property(r *run, a any) func(v any) (any, error) {
	if !given(a) || a == nil {
		return func(v any) (any, error) { return v, nil }
	}
	parts := []any{a}
	if t, ok := a.(Text); ok {
		parts = r.split(t, ".", -1)
	}
	return func(v any) (any, error) {
		for _, p := range parts {
			if err := r.step(); err != nil {
				return nil, err
			}
			if t, ok := p.(Text); ok && len(t.s) < 20 {
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
	list, err := r.iterate(v)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := cmp.Or(r.step(), r.spend(itemBytes)); err != nil {
			return err
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return r.err
}

var join = named([]string{"d", "attribute"}, 0, func(r *run, v any, a []any) (any, error) {
	sep, of := Text{}, property(r, a[1])
	if given(a[0]) {
		sep = r.str(a[0])
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
		t := r.str(e)
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
		name := r.name(args[0])
		g, ok := filters[name]
		if !ok {
			return nil, fmt.Errorf("no filter named %q", name)
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
		test := func(_ *run, v any, _ []any) (bool, error) { return truth(v), nil }
		if len(args) > 0 {
			name := r.name(args[0])
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
			ok, err := test(r, got, args)
			if ok == want {
				out.items = append(out.items, e)
			}
			return err
		})
		return out, err
	}
}

// folded makes texts comparable without regard to case.
func (r *run) folded(v any, sensitive any) any {
	if t, ok := v.(Text); ok && !(given(sensitive) && truth(sensitive)) {
		return r.mapRunes(t, lower)
	}
	return v
}

// ordered sorts values by keys; the first failure to compare is the error.
func ordered(r *run, list []any, key func(v any) (any, error), descending bool) ([]any, error) {
	type pair struct{ key, v any }
	// Before it is sorted: a sort cannot be left.
	if err := cmp.Or(r.work(len(list)*bits.Len(uint(len(list)))), r.spend(partBytes*len(list))); err != nil {
		return nil, err
	}
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
		c, err := r.compare(x.key, y.key)
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
	list, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	of := property(r, a[2])
	out, err := ordered(r, list, func(v any) (any, error) {
		k, err := of(v)
		return r.folded(k, a[1]), err
	}, truth(a[0]))
	return NewList(out...), err
})

var dictSort = named([]string{"case_sensitive", "by", "reverse"}, 0, func(r *run, v any, a []any) (any, error) {
	d, ok := v.(*Dict)
	if !ok {
		return nil, errors.New("dictsort sorts a dict")
	}
	at := 0
	if given(a[1]) && r.name(a[1]) == "value" {
		at = 1
	}
	out, err := ordered(r, r.pairs(d).items, func(v any) (any, error) { return r.folded(v.(*List).items[at], a[0]), nil }, truth(a[2]))
	return NewList(out...), err
})

var unique = named([]string{"case_sensitive", "attribute"}, 0, func(r *run, v any, a []any) (any, error) {
	of, seen, out := property(r, a[1]), map[any]bool{}, NewList()
	err := each1(r, v, func(e any) error {
		k, err := of(e)
		if err != nil {
			return err
		}
		h, err := r.hashOf(r.folded(k, a[0]))
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
			k = r.folded(k, a[0])
			if given(best) {
				c, err := r.compare(k, key)
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

var batch = named([]string{"linecount", "fill_with"}, 1, func(r *run, v any, a []any) (any, error) {
	n, err := integer(a[0], 0)
	if err != nil || n < 1 || n > maxRange {
		return nil, errors.New("batch: a number of items")
	}
	out := NewList()
	var row *List
	err = each1(r, v, func(e any) error {
		if row == nil || len(row.items) == n {
			if err := r.spend(listBytes); err != nil {
				return err
			}
			row = NewList()
			out.items = append(out.items, row)
		}
		row.items = append(row.items, e)
		return nil
	})
	for row != nil && given(a[1]) && a[1] != nil && len(row.items) < n && r.spend(itemBytes) == nil {
		row.items = append(row.items, a[1])
	}
	return out, err
})
