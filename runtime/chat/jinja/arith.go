package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
)

// arithmetic is a binary operator of Python.
func (r *run) arithmetic(op string, a, b any) (any, error) {
	if op == "~" {
		x, y := r.str(a), r.str(b)
		if err := r.spend(len(x.s) + len(y.s)); err != nil {
			return nil, err
		}
		return concat(x, y), nil
	}
	if t, ok := a.(Text); ok && op == "%" {
		return r.percent(t, b)
	}
	for _, v := range []any{a, b} {
		if u, ok := v.(undefined); ok {
			return nil, u.fail()
		}
	}
	if v, ok, err := r.sequences(op, a, b); ok {
		return v, err
	}
	x, f, xi, okA := number(a)
	y, g, yi, okB := number(b)
	if !okA || !okB {
		return nil, fmt.Errorf("unsupported operand types for %s: '%s' and '%s'", op, typeName(a), typeName(b))
	}
	_, aBig := a.(*big.Int)
	_, bBig := b.(*big.Int)
	if (xi || aBig) && (yi || bBig) && op != "/" {
		return integers(op, whole(a, x), whole(b, y))
	}
	switch op {
	case "+":
		return f + g, nil
	case "-":
		return f - g, nil
	case "*":
		return f * g, nil
	case "**":
		return math.Pow(f, g), nil
	}
	if g == 0 {
		return nil, errors.New("division by zero")
	}
	switch op {
	case "/":
		return f / g, nil
	case "//":
		return math.Floor(f / g), nil
	}
	m := math.Mod(f, g)
	if m != 0 && (m < 0) != (g < 0) {
		m += g
	}
	return m, nil
}

func whole(v any, i int64) *big.Int {
	if b, ok := v.(*big.Int); ok {
		return b
	}
	return big.NewInt(i)
}

const maxBits = 4096 // of an integer

func integers(op string, a, b *big.Int) (any, error) {
	out := new(big.Int)
	switch op {
	case "+":
		out.Add(a, b)
	case "-":
		out.Sub(a, b)
	case "*":
		out.Mul(a, b)
	case "**":
		if b.Sign() < 0 {
			x, _ := new(big.Float).SetInt(a).Float64()
			y, _ := new(big.Float).SetInt(b).Float64()
			if x == 0 {
				return nil, errors.New("0 cannot be raised to a negative power")
			}
			return math.Pow(x, y), nil
		}
		if a.BitLen() > 1 && (!b.IsInt64() || int64(a.BitLen())*b.Int64() > maxBits) {
			return nil, fmt.Errorf("%w: an integer of more than %d bits", ErrLimit, maxBits)
		}
		out.Exp(a, b, nil)
	case "//", "%":
		if b.Sign() == 0 {
			return nil, errors.New("integer division or modulo by zero")
		}
		m := new(big.Int)
		out.QuoRem(a, b, m)
		if m.Sign() != 0 && m.Sign() != b.Sign() { // Python rounds down
			out.Sub(out, big.NewInt(1))
			m.Add(m, b)
		}
		if op == "%" {
			out = m
		}
	}
	if out.BitLen() > maxBits {
		return nil, fmt.Errorf("%w: an integer of more than %d bits", ErrLimit, maxBits)
	}
	return shrink(out), nil
}

// sequences adds and repeats texts and lists, and formats with %.
func (r *run) sequences(op string, a, b any) (v any, ok bool, err error) {
	if op == "*" {
		if _, _, isInt, ok := number(a); ok && isInt {
			a, b = b, a
		}
	}
	switch x := a.(type) {
	case Text:
		switch y := b.(type) {
		case Text:
			if op == "+" {
				if err := r.spend(len(x.s) + len(y.s)); err != nil {
					return nil, true, err
				}
				return concat(x, y), true, nil
			}
		default:
			if n, _, isInt, ok := number(y); ok && isInt && op == "*" {
				if err := r.repeat(n, len(x.s)); err != nil {
					return nil, true, err
				}
				return Text{strings.Repeat(x.s, int(max(n, 0))), strings.Repeat(x.m, int(max(n, 0)))}, true, nil
			}
		}
	case *List:
		switch y := b.(type) {
		case *List:
			if op == "+" && x.tuple == y.tuple {
				if err := r.spend(listBytes + itemBytes*(len(x.items)+len(y.items))); err != nil {
					return nil, true, err
				}
				return &List{items: slices.Concat(x.items, y.items), tuple: x.tuple}, true, nil
			}
		default:
			if n, _, isInt, ok := number(y); ok && isInt && op == "*" {
				if err := r.repeat(n, itemBytes*len(x.items)); err != nil {
					return nil, true, err
				}
				return &List{items: slices.Repeat(x.items, int(max(n, 0))), tuple: x.tuple}, true, nil
			}
		}
	}
	return nil, false, nil
}

func (r *run) repeat(n int64, size int) error {
	if n > maxText {
		return fmt.Errorf("%w: repeated %d times", ErrLimit, n)
	}
	return r.spend(int(max(n, 0)) * max(size, 1))
}

// percent is the % operator of strings, with %s, %r, %d, %i and %%.
func (r *run) percent(t Text, v any) (Text, error) {
	args := []any{v}
	if l, ok := v.(*List); ok && l.tuple {
		args = l.items
	}
	var b builder
	if err := r.scan(len(t.s)); err != nil {
		return Text{}, err
	}
	for r.step() == nil {
		i := strings.IndexByte(t.s, '%')
		if i < 0 || i+1 >= len(t.s) {
			break
		}
		b.add(t.Cut(0, i))
		verb := t.s[i+1]
		if verb == '%' {
			b.add(t.Cut(i, i+1))
			t = t.Cut(i+2, len(t.s))
			continue
		}
		if len(args) == 0 {
			return Text{}, errors.New("not enough arguments for format string")
		}
		switch arg := args[0]; verb {
		case 's':
			text := r.str(arg)
			if err := r.spend(len(text.s)); err != nil {
				return Text{}, err
			}
			b.add(text)
		case 'r':
			b.add(r.repr(arg))
		case 'd', 'i':
			n, f, isInt, ok := number(arg)
			if !ok {
				return Text{}, fmt.Errorf("%%d format: a real number is required, not %s", typeName(arg))
			}
			if !isInt {
				n = int64(f)
			}
			b.add(r.repr(n))
		default:
			return Text{}, fmt.Errorf("format %%%c is not supported", verb)
		}
		args, t = args[1:], t.Cut(i+2, len(t.s))
	}
	// Values with items that are not tuples may stay unused, as in Python.
	converted := len(args) == 0
	switch v := v.(type) {
	case *Dict, undefined:
		converted = true
	case *List:
		converted = converted || !v.tuple
	}
	if !converted {
		return Text{}, errors.New("not all arguments converted during string formatting")
	}
	b.add(t)
	return b.text(), nil
}
