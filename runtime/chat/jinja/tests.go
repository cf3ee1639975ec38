package jinja

import (
	"errors"
	"fmt"
	"math/big"
)

// tests are what may follow "is".
var tests = map[string]func(r *run, v any, args []any) (bool, error){
	"defined":   simple(given),
	"undefined": simple(func(v any) bool { return !given(v) }),
	"none":      simple(func(v any) bool { return v == nil }),
	"string":    simple(func(v any) bool { _, ok := v.(Text); return ok }),
	"mapping":   simple(func(v any) bool { _, ok := v.(*Dict); return ok }),
	"sequence": simple(func(v any) bool {
		switch v.(type) {
		case Text, *List, *Dict, undefined:
			return true
		}
		return false
	}),
	"iterable": simple(iterable),
	"callable": simple(func(v any) bool { _, ok := v.(*function); return ok || !given(v) }),
	"boolean":  simple(func(v any) bool { _, ok := v.(bool); return ok }),
	"true":     simple(func(v any) bool { return v == true }),
	"false":    simple(func(v any) bool { return v == false }),
	"float":    simple(func(v any) bool { _, ok := v.(float64); return ok }),
	"integer":  simple(isInteger),
	"number":   simple(func(v any) bool { _, _, _, ok := number(v); return ok }),
	"lower":    func(r *run, v any, _ []any) (bool, error) { return r.is("islower", v) },
	"upper":    func(r *run, v any, _ []any) (bool, error) { return r.is("isupper", v) },
	"escaped":  simple(func(any) bool { return false }),
	"odd": func(r *run, v any, _ []any) (bool, error) {
		m, err := r.arithmetic("%", v, int64(2))
		return r.equal(m, int64(1)), err
	},
	"even": func(r *run, v any, _ []any) (bool, error) {
		m, err := r.arithmetic("%", v, int64(2))
		return r.equal(m, int64(0)), err
	},
	"divisibleby": func(r *run, v any, args []any) (bool, error) {
		if len(args) != 1 {
			return false, errors.New("divisibleby takes a number")
		}
		m, err := r.arithmetic("%", v, args[0])
		return r.equal(m, int64(0)), err
	},
	"sameas": func(r *run, v any, args []any) (bool, error) {
		return len(args) == 1 && typeName(v) == typeName(args[0]) && r.equal(v, args[0]), nil
	},
	"filter": func(r *run, v any, _ []any) (bool, error) { _, ok := filters[r.name(v)]; return ok, nil },
	"test":   func(r *run, v any, _ []any) (bool, error) { return isTest(r.name(v)), nil },
}

func init() {
	for name, op := range map[string]string{"eq": "==", "equalto": "==", "ne": "!=", "lt": "<", "lessthan": "<", "le": "<=",
		"gt": ">", "greaterthan": ">", "ge": ">=", "in": "in"} {
		tests[name] = func(r *run, v any, args []any) (bool, error) {
			if len(args) != 1 {
				return false, fmt.Errorf("%s takes one argument", name)
			}
			return r.relation(op, v, args[0])
		}
	}
}

var isTest func(name string) bool

func init() { isTest = func(name string) bool { _, ok := tests[name]; return ok } }

func simple(f func(v any) bool) func(*run, any, []any) (bool, error) {
	return func(_ *run, v any, args []any) (bool, error) {
		if len(args) != 0 {
			return false, errors.New("the test takes no argument")
		}
		return f(v), nil
	}
}

func isInteger(v any) bool {
	switch v.(type) {
	case int64, *big.Int:
		return true
	}
	return false
}

// is asks a method of texts.
func (r *run) is(method string, v any) (bool, error) {
	ok, err := textMethods[method](r, r.str(v), nil, nil)
	return ok == true, err
}
