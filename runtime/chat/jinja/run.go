package jinja

import (
	"errors"
	"fmt"
	"time"
)

// Bounds of one rendering. Real templates with long agent histories stay far
// below them; a hostile one meets an error.
const (
	maxNesting = 150      // of expressions, tags and calls
	maxText    = 64 << 20 // bytes of one text
)

var (
	maxSteps = 5_000_000 // statements, loop iterations, calls and filters
	maxSpent = 256 << 20 // bytes of all texts and lists
)

// ErrLimit: a bound on nesting, steps or memory was reached.
var ErrLimit = errors.New("limit reached")

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

// run is the state of one rendering.
type run struct {
	steps, spent, depth int
	now                 time.Time
}

func (r *run) step() error {
	if r.steps++; r.steps > maxSteps {
		return fmt.Errorf("%w: more than %d steps", ErrLimit, maxSteps)
	}
	return nil
}

// spend accounts for n bytes.
func (r *run) spend(n int) error {
	if r.spent += n; n > maxText || r.spent > maxSpent {
		return fmt.Errorf("%w: more than %d bytes", ErrLimit, maxText)
	}
	return nil
}

// enter bounds calls within calls; done undoes it.
func (r *run) enter() (done func(), err error) {
	if err := r.step(); err != nil {
		return nil, err
	}
	if r.depth >= maxNesting {
		return nil, fmt.Errorf("%w: calls nested deeper than %d", ErrLimit, maxNesting)
	}
	r.depth++
	return func() { r.depth-- }, nil
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

// Render runs the template. Values are those of the package comment.
func (t *Template) Render(vars map[string]any, now time.Time) (Text, error) {
	r := &run{now: now}
	s := (&scope{vars: globals}).child()
	for k, v := range vars {
		s.vars[k] = v
	}
	var out builder
	if err := t.body(r, s, &out); err != nil {
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
	switch v := v.(type) {
	case undefined:
		return nil, v.fail()
	case Text:
		if m, ok := textMethods[name]; ok {
			return &function{name: name, call: func(r *run, args []any, kw []keyword) (any, error) { return m(r, v, args, kw) }}, nil
		}
	case *Dict:
		if m, ok := dictMethods[name]; ok {
			return &function{name: name, call: func(_ *run, args []any, _ []keyword) (any, error) { return m(v, args) }}, nil
		}
		if got, ok := v.get(Text{s: name}); ok {
			return got, nil
		}
	case *List:
		if m, ok := listMethods[name]; ok {
			return &function{name: name, call: func(_ *run, args []any, _ []keyword) (any, error) { return m(v, args) }}, nil
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
	return undefined{fmt.Sprintf("'%s object' has no attribute '%s'; it", typeName(v), name)}, nil
}

// item is value[key]: an item, else a method.
func (r *run) item(v, key any) (any, error) {
	none := undefined{fmt.Sprintf("'%s object' has no element %s; it", typeName(v), repr(key).s)}
	switch v := v.(type) {
	case undefined:
		return nil, v.fail()
	case *Dict:
		if got, ok := v.get(key); ok {
			return got, nil
		}
	case *List, Text:
		n, _ := length(v)
		if i, _, isInt, ok := number(key); ok && isInt {
			if i < 0 {
				i += int64(n)
			}
			if i < 0 || i >= int64(n) {
				return none, nil
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
	return none, nil
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
	n, _ := length(v)
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
		return t.Cut(t.offset(part[0]), t.offset(max(part[0], part[1]))), nil
	}
	items := []any{}
	from, _ := iterate(v)
	for i := part[0]; part[2] > 0 && i < part[1] || part[2] < 0 && i > part[1]; i += part[2] {
		items = append(items, from[i])
	}
	if isText {
		return concat(items), r.spend(len(t.s))
	}
	return &List{items: items, tuple: l.tuple}, r.spend(16 * len(items))
}

// concat joins texts.
func concat(items []any) Text {
	var b builder
	for _, v := range items {
		b.add(str(v))
	}
	return b.text()
}
