package jinja

import (
	"fmt"
	"math"
	"math/big"
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

// get returns the value of a key; no value has a key that cannot be hashed.
func (r *run) get(d *Dict, key any) (any, bool) {
	h, err := r.hashOf(key)
	if err != nil {
		return nil, false
	}
	i, ok := d.index[h]
	if !ok {
		return nil, false
	}
	return d.values[i], true
}

// merge sets the entries of another dict.
func (r *run) merge(d, from *Dict) error {
	if err := r.spend(entryBytes * len(from.keys)); err != nil {
		return err
	}
	for i, k := range from.keys {
		h, err := r.hashOf(k)
		if err != nil {
			return err
		}
		d.set(k, h, from.values[i])
	}
	return r.err
}

type (
	bigHash   string // of an integer beyond 64 bits
	tupleHash string
)

// hashOf is what equal dict keys share.
func (r *run) hashOf(v any) (any, error) {
	switch v := v.(type) {
	case Text:
		return v.s, r.scan(len(v.s)) // it will be hashed
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
		return bigHash(v.String()), nil
	case *List:
		if v.tuple {
			return tupleHash(r.repr(v).s), r.err
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
