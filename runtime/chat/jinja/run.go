package jinja

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Error is a fault of a template, or one that it raised.
type Error struct {
	Line int
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// at gives an error its line, once.
func at(line int, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{line, err}
}

// scope holds the names of a block; macros keep the one they were defined in.
type scope struct {
	vars   map[string]any
	parent *scope
}

func (s *scope) child() *scope { return &scope{map[string]any{}, s} }

func (s *scope) get(name string) any {
	for ; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v
		}
	}
	return undefined{"'" + name + "'"}
}

// Render runs the template. Values are those of the package comment; now is the
// time that strftime_now tells. Errors are [Error], [ErrLimit] and ctx's.
func (t *Template) Render(ctx context.Context, vars map[string]any, now time.Time) (Text, error) {
	r := newRun(ctx, now)
	if err := ctx.Err(); err != nil {
		return Text{}, err
	}
	s := (&scope{vars: globals}).child()
	for k, v := range vars {
		s.vars[k] = v
	}
	var out builder
	if err := cmp.Or(t.body(r, s, &out), r.err); err != nil {
		return Text{}, err
	}
	return out.text(), nil
}

// invoke calls a function.
func (r *run) invoke(f any, args []any, kw []keyword) (any, error) {
	switch f := f.(type) {
	case *function:
		if err := r.step(); err != nil {
			return nil, err
		}
		v, err := f.call(r, args, kw)
		if t, ok := v.(Text); ok && err == nil {
			err = r.spend(len(t.s))
		}
		return v, err
	case *loop:
		if f.again != nil {
			return f.again(r, args)
		}
	case undefined:
		return nil, f.fail()
	}
	return nil, fmt.Errorf("'%s' object is not callable", typeName(f))
}

// attribute is value.name: a method, else an item.
func (r *run) attribute(v any, name string) (any, error) {
	if err := r.scan(len(name)); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case undefined:
		return nil, v.fail()
	case Text:
		if m, ok := textMethods[name]; ok {
			return &function{name: name, call: func(r *run, args []any, kw []keyword) (any, error) { return m(r, v, args, kw) }}, nil
		}
	case *Dict:
		if m, ok := dictMethods[name]; ok {
			return &function{name: name, call: func(r *run, args []any, _ []keyword) (any, error) { return m(r, v, args) }}, nil
		}
		if got, ok := r.get(v, Text{s: name}); ok {
			return got, nil
		}
	case *List:
		if m, ok := listMethods[name]; ok {
			return &function{name: name, call: func(r *run, args []any, _ []keyword) (any, error) { return m(r, v, args) }}, nil
		}
	case *namespace:
		if got, ok := v.attrs[name]; ok {
			return got, nil
		}
	case *loop:
		if got, ok := v.attribute(name); ok {
			return got, nil
		}
	case *function:
		if name == "name" {
			return Written(v.name), nil
		}
	}
	return undefined{fmt.Sprintf("'%s object' has no attribute '%s'; it", typeName(v), brief(name))}, nil
}

// item is value[key]: an item, else a method.
func (r *run) item(v, key any) (any, error) {
	switch v := v.(type) {
	case undefined:
		return nil, v.fail()
	case *Dict:
		if got, ok := r.get(v, key); ok {
			return got, nil
		}
	case *List, Text:
		if i, _, isInt, ok := number(key); ok && isInt {
			n, err := r.length(v)
			if err != nil {
				return nil, err
			}
			if i < 0 {
				i += int64(n)
			}
			if i < 0 || i >= int64(n) {
				return missing(v, key), nil
			}
			if l, ok := v.(*List); ok {
				return l.items[i], nil
			}
			t := v.(Text)
			return t.Cut(t.offset(int(i)), t.offset(int(i)+1)), nil
		}
	}
	if name, ok := key.(Text); ok {
		if _, isDict := v.(*Dict); !isDict {
			return r.attribute(v, name.s)
		}
		if _, ok := dictMethods[name.s]; ok {
			return r.attribute(v, name.s)
		}
	}
	return missing(v, key), nil
}

// missing is the item that is not there.
func missing(v, key any) undefined {
	what := "that is a " + typeName(key)
	switch key := key.(type) {
	case nil, bool, int64, float64, *big.Int:
		what = scalar(key)
	case Text:
		what = "'" + brief(key.s) + "'"
	}
	return undefined{fmt.Sprintf("'%s object' has no element %s; it", typeName(v), what)}
}

// slice is value[from:to:step].
func (r *run) slice(v any, bounds [3]any) (any, error) {
	if u, ok := v.(undefined); ok {
		return nil, u.fail()
	}
	t, isText := v.(Text)
	l, isList := v.(*List)
	if !isText && !isList {
		return undefined{"the slice"}, nil
	}
	n, _ := r.length(v)
	part := [3]int{0, n, 1}
	if bounds[2] != nil {
		i, _, isInt, ok := number(bounds[2])
		if !ok || !isInt || i == 0 {
			return nil, errors.New("the step of a slice is an integer other than 0")
		}
		part[2] = int(min(max(i, -1<<31), 1<<31))
		if i < 0 {
			part[0], part[1] = n-1, -1
		}
	}
	low, high := 0, n
	if part[2] < 0 {
		low, high = -1, n-1
	}
	for i, b := range bounds[:2] {
		if b == nil {
			continue
		}
		x, _, isInt, ok := number(b)
		if !ok || !isInt {
			return nil, errors.New("the bounds of a slice are integers")
		}
		if x < 0 {
			x += int64(n)
		}
		part[i] = int(min(max(x, int64(low)), int64(high)))
	}
	if isText && part[2] == 1 {
		if err := r.scan(len(t.s)); err != nil {
			return nil, err
		}
		return t.Cut(t.offset(part[0]), t.offset(max(part[0], part[1]))), nil
	}
	items := []any{}
	from, err := r.iterate(v)
	if err == nil {
		err = r.spend(itemBytes * len(from))
	}
	if err != nil {
		return nil, err
	}
	for i := part[0]; part[2] > 0 && i < part[1] || part[2] < 0 && i > part[1]; i += part[2] {
		items = append(items, from[i])
	}
	if isText {
		var b builder
		for _, c := range items {
			b.add(c.(Text))
		}
		return b.text(), r.spend(len(t.s))
	}
	return &List{items: items, tuple: l.tuple}, nil
}

// concat joins texts.
func concat(items ...Text) Text {
	var b builder
	for _, t := range items {
		b.add(t)
	}
	return b.text()
}
