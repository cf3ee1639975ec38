package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Filters that make numbers.

var intFilter = named([]string{"default", "base"}, 0, func(r *run, v any, a []any) (any, error) {
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
		if err := r.decode(len(v.s)); err != nil {
			return nil, err
		}
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

var floatFilter = named([]string{"default"}, 0, func(r *run, v any, a []any) (any, error) {
	if _, f, _, ok := number(v); ok {
		return f, nil
	}
	if t, ok := v.(Text); ok && r.decode(len(t.s)) == nil {
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
	c, err := r.compare(v, int64(0))
	if err != nil {
		return nil, err
	}
	if c >= 0 {
		return r.arithmetic("+", int64(0), v)
	}
	return r.arithmetic("-", int64(0), v)
}

var round = named([]string{"precision", "method"}, 0, func(r *run, v any, a []any) (any, error) {
	_, f, _, ok := number(v)
	if !ok {
		return nil, fmt.Errorf("round: '%s' is not a number", typeName(v))
	}
	digits, err := integer(a[0], 0)
	if err != nil || digits < -300 || digits > 300 {
		return nil, errors.New("round: a precision from -300 to 300")
	}
	scale := math.Pow(10, float64(digits))
	method := "common"
	if given(a[1]) {
		method = r.name(a[1])
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
