package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// List is a Python list, or a tuple.
type List struct {
	items []any
	tuple bool
	view  string // how a view of a dict prints: dict_items, dict_keys, dict_values
}

// NewList returns a list of values.
func NewList(items ...any) *List { return &List{items: items} }

// Dict is a Python dict: it keeps the order in which keys were first set.
type Dict struct {
	keys   []any
	values []any
	index  map[any]int
}

// NewDict returns an empty dict.
func NewDict() *Dict { return &Dict{index: map[any]int{}} }

// SetText sets the value of a text key.
func (d *Dict) SetText(key Text, value any) { d.set(key, key.s, value) }

func (d *Dict) set(key, hash, value any) {
	if i, ok := d.index[hash]; ok {
		d.values[i] = value
		return
	}
	d.index[hash] = len(d.keys)
	d.keys, d.values = append(d.keys, key), append(d.values, value)
}

func (d *Dict) get(key any) (any, bool) {
	h, err := hashOf(key)
	if err != nil {
		return nil, false
	}
	i, ok := d.index[h]
	if !ok {
		return nil, false
	}
	return d.values[i], true
}

// hashOf is what equal dict keys share.
func hashOf(v any) (any, error) {
	switch v := v.(type) {
	case Text:
		return v.s, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<62 {
			return int64(v), nil
		}
		return v, nil
	case int64, nil:
		return v, nil
	case undefined:
		return undefined{}, nil // all of them are equal
	case *big.Int:
		return "int " + v.String(), nil
	case *List:
		if v.tuple {
			return [1]string{repr(v).s}, nil
		}
	}
	return nil, fmt.Errorf("unhashable type: %s", typeName(v))
}

type undefined struct{ what string }

func (u undefined) fail() error { return fmt.Errorf("%s is undefined", u.what) }

// namespace is the object of namespace(): the only one that templates change.
type namespace struct{ attrs map[string]any }

type keyword struct {
	name  string
	value any
}

// function is a macro, a method or a global.
type function struct {
	name string
	call func(r *run, args []any, kw []keyword) (any, error)
}

// loop is the variable of that name.
type loop struct {
	index, depth int
	items        []any
	changed      *[]any
	again        func(r *run, args []any) (any, error) // of a recursive loop
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case Text:
		return "str"
	case *List:
		if v.tuple {
			return "tuple"
		}
		return "list"
	case *Dict:
		return "dict"
	case undefined:
		return "Undefined"
	case *namespace:
		return "Namespace"
	case *function:
		return "function"
	}
	return "object"
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case *big.Int:
		return v.Sign() != 0
	case float64:
		return v != 0
	case Text:
		return v.s != ""
	case *List:
		return len(v.items) > 0
	case *Dict:
		return len(v.keys) > 0
	}
	return true
}

// number reads a value as Python's arithmetic does: bool is an integer.
func number(v any) (i int64, f float64, isInt, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, true, true
		}
		return 0, 0, true, true
	case int64:
		return v, float64(v), true, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return 0, f, false, true
	case float64:
		return 0, v, false, true
	}
	return 0, 0, false, false
}

func equal(a, b any) bool {
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
		return ok && t.s == a.s
	case *List:
		l, ok := b.(*List)
		if !ok || l.tuple != a.tuple || len(l.items) != len(a.items) {
			return false
		}
		for i := range a.items {
			if !equal(a.items[i], l.items[i]) {
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
			if v, ok := d.get(k); !ok || !equal(a.values[i], v) {
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
func compare(a, b any) (int, error) {
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
			return strings.Compare(x.s, y.s), nil
		}
	}
	if x, ok := a.(*List); ok {
		if y, ok := b.(*List); ok && x.tuple == y.tuple {
			for i := range min(len(x.items), len(y.items)) {
				if !equal(x.items[i], y.items[i]) {
					return compare(x.items[i], y.items[i])
				}
			}
			return len(x.items) - len(y.items), nil
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
func contains(in, v any) (bool, error) {
	switch in := in.(type) {
	case undefined:
		return false, nil
	case Text:
		t, ok := v.(Text)
		if !ok {
			return false, fmt.Errorf("'in <string>' requires string as left operand, not %s", typeName(v))
		}
		return strings.Contains(in.s, t.s), nil
	case *List:
		for _, e := range in.items {
			if equal(e, v) {
				return true, nil
			}
		}
		return false, nil
	case *Dict:
		if _, err := hashOf(v); err != nil {
			return false, err
		}
		_, ok := in.get(v)
		return ok, nil
	}
	return false, fmt.Errorf("argument of type %s is not iterable", typeName(in))
}

// iterate lists what a for loop goes through.
func iterate(v any) ([]any, error) {
	switch v := v.(type) {
	case undefined:
		return nil, nil
	case Text:
		return v.chars(), nil
	case *List:
		return v.items, nil
	case *Dict:
		return v.keys, nil
	case *loop:
		return v.items, nil
	}
	return nil, fmt.Errorf("'%s' object is not iterable", typeName(v))
}

func length(v any) (int, error) {
	if t, ok := v.(Text); ok {
		return t.runes(), nil
	}
	if _, ok := v.(*loop); ok {
		return 0, fmt.Errorf("a loop has no len()")
	}
	items, err := iterate(v)
	if err != nil {
		return 0, fmt.Errorf("object of type '%s' has no len()", typeName(v))
	}
	return len(items), nil
}
