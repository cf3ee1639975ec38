package jinja

import (
	"cmp"
	"fmt"
	"math/big"
	"strings"
)

// relation is a comparison of Python.
func (r *run) relation(op string, a, b any) (bool, error) {
	switch op {
	case "==":
		return r.equal(a, b), r.err
	case "!=":
		return !r.equal(a, b), r.err
	case "in":
		return r.contains(b, a)
	case "not in":
		ok, err := r.contains(b, a)
		return !ok, err
	}
	c, err := r.compare(a, b)
	return err == nil && (op == "<" && c < 0 || op == "<=" && c <= 0 || op == ">" && c > 0 || op == ">=" && c >= 0), err
}

// equal is ==; it answers no once a bound is reached.
func (r *run) equal(a, b any) bool {
	if !r.within() {
		return false
	}
	defer r.out()
	if x, f, xi, ok := number(a); ok {
		y, g, yi, ok := number(b)
		if xb, isBig := a.(*big.Int); isBig {
			if yb, isBig := b.(*big.Int); isBig {
				return xb.Cmp(yb) == 0
			}
		}
		return ok && (xi && yi && x == y || !(xi && yi) && f == g)
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case undefined:
		_, ok := b.(undefined)
		return ok
	case Text:
		t, ok := b.(Text)
		return ok && len(t.s) == len(a.s) && r.scan(len(a.s)) == nil && t.s == a.s
	case *List:
		l, ok := b.(*List)
		if !ok || l.tuple != a.tuple || len(l.items) != len(a.items) {
			return false
		}
		for i := range a.items {
			if !r.equal(a.items[i], l.items[i]) {
				return false
			}
		}
		return true
	case *Dict:
		d, ok := b.(*Dict)
		if !ok || len(d.keys) != len(a.keys) {
			return false
		}
		for i, k := range a.keys {
			if v, ok := r.get(d, k); !ok || !r.equal(a.values[i], v) {
				return false
			}
		}
		return true
	case *namespace:
		return a == b
	case *function:
		return a == b
	}
	return false
}

// compare orders two values, as < does.
func (r *run) compare(a, b any) (int, error) {
	if !r.within() {
		return 0, r.err
	}
	defer r.out()
	if x, f, xi, ok := number(a); ok {
		if y, g, yi, ok := number(b); ok {
			switch {
			case xi && yi && x < y, !(xi && yi) && f < g:
				return -1, nil
			case xi && yi && x > y, !(xi && yi) && f > g:
				return 1, nil
			}
			return 0, nil
		}
	}
	if x, ok := a.(Text); ok {
		if y, ok := b.(Text); ok {
			if err := r.scan(min(len(x.s), len(y.s))); err != nil {
				return 0, err
			}
			return strings.Compare(x.s, y.s), nil
		}
	}
	if x, ok := a.(*List); ok {
		if y, ok := b.(*List); ok && x.tuple == y.tuple {
			for i := range min(len(x.items), len(y.items)) {
				if !r.equal(x.items[i], y.items[i]) {
					return r.compare(x.items[i], y.items[i])
				}
			}
			return cmp.Compare(len(x.items), len(y.items)), r.err
		}
	}
	for _, v := range []any{a, b} {
		if u, ok := v.(undefined); ok {
			return 0, u.fail()
		}
	}
	return 0, fmt.Errorf("%s and %s cannot be ordered", typeName(a), typeName(b))
}

// contains is Python's in.
func (r *run) contains(in, v any) (bool, error) {
	switch in := in.(type) {
	case undefined:
		return false, nil
	case Text:
		t, ok := v.(Text)
		if !ok {
			return false, fmt.Errorf("'in <string>' requires string as left operand, not %s", typeName(v))
		}
		return r.index(in.s, t.s) >= 0, r.err
	case *List:
		for _, e := range in.items {
			if r.equal(e, v) {
				return true, nil
			}
		}
		return false, r.err
	case *Dict:
		if _, err := r.hashOf(v); err != nil {
			return false, err
		}
		_, ok := r.get(in, v)
		return ok, r.err
	}
	return false, fmt.Errorf("argument of type %s is not iterable", typeName(in))
}

// iterate lists what a for loop goes through.
func (r *run) iterate(v any) ([]any, error) {
	switch v := v.(type) {
	case undefined:
		return nil, nil
	case Text:
		return r.chars(v), r.err
	case *List:
		return v.items, nil
	case *Dict:
		return v.keys, nil
	case *loop:
		return v.items, nil
	}
	return nil, fmt.Errorf("'%s' object is not iterable", typeName(v))
}

func iterable(v any) bool {
	switch v.(type) {
	case undefined, Text, *List, *Dict, *loop:
		return true
	}
	return false
}

func (r *run) length(v any) (int, error) {
	switch v := v.(type) {
	case Text:
		if err := r.scan(len(v.s)); err != nil {
			return 0, err
		}
		return v.runes(), nil
	case *loop:
		return 0, fmt.Errorf("a loop has no len()")
	}
	if !iterable(v) {
		return 0, fmt.Errorf("object of type '%s' has no len()", typeName(v))
	}
	items, err := r.iterate(v)
	return len(items), err
}
