package jinja

import (
	"cmp"
	"errors"
	"fmt"
)

type dictMethod func(r *run, d *Dict, args []any) (any, error)
type listMethod func(r *run, l *List, args []any) (any, error)

var dictMethods = map[string]dictMethod{
	"items": func(r *run, d *Dict, _ []any) (any, error) {
		return &List{items: r.pairs(d).items, view: "dict_items"}, r.err
	},
	"keys":   func(_ *run, d *Dict, _ []any) (any, error) { return &List{items: d.keys, view: "dict_keys"}, nil },
	"values": func(_ *run, d *Dict, _ []any) (any, error) { return &List{items: d.values, view: "dict_values"}, nil },
	"get": func(r *run, d *Dict, args []any) (any, error) {
		if len(args) < 1 || len(args) > 2 {
			return nil, errors.New("get takes a key and perhaps a default")
		}
		if _, err := r.hashOf(args[0]); err != nil {
			return nil, err
		}
		if v, ok := r.get(d, args[0]); ok {
			return v, nil
		}
		if len(args) == 2 {
			return args[1], nil
		}
		return nil, nil
	},
	"copy": func(r *run, d *Dict, _ []any) (any, error) {
		out := NewDict()
		return out, r.merge(out, d)
	},
	"update": refused[*Dict]("update"), "pop": refused[*Dict]("pop"), "popitem": refused[*Dict]("popitem"),
	"clear": refused[*Dict]("clear"), "setdefault": refused[*Dict]("setdefault"),
}

var listMethods = map[string]listMethod{
	"index": func(r *run, l *List, args []any) (any, error) {
		for i, v := range l.items {
			if len(args) == 1 && r.equal(v, args[0]) {
				return int64(i), nil
			}
		}
		return nil, errors.New("the value is not in the list")
	},
	"count": func(r *run, l *List, args []any) (any, error) {
		n := int64(0)
		for _, v := range l.items {
			if len(args) == 1 && r.equal(v, args[0]) {
				n++
			}
		}
		return n, nil
	},
	"copy": func(r *run, l *List, _ []any) (any, error) {
		if err := r.spend(itemBytes * len(l.items)); err != nil {
			return nil, err
		}
		return NewList(append([]any{}, l.items...)...), nil
	},
	"append": refused[*List]("append"), "extend": refused[*List]("extend"), "insert": refused[*List]("insert"),
	"pop": refused[*List]("pop"), "remove": refused[*List]("remove"), "clear": refused[*List]("clear"),
	"sort": refused[*List]("sort"), "reverse": refused[*List]("reverse"),
}

// refused is what the immutable sandbox says to methods that change a value.
func refused[T any](name string) func(*run, T, []any) (any, error) {
	return func(*run, T, []any) (any, error) {
		return nil, fmt.Errorf("%s is not safely callable: templates cannot change values", name)
	}
}

func (r *run) pairs(d *Dict) *List {
	if r.spend(entryBytes*len(d.keys)) != nil {
		return NewList()
	}
	out := &List{items: make([]any, len(d.keys))}
	for i, k := range d.keys {
		out.items[i] = &List{items: []any{k, d.values[i]}, tuple: true}
	}
	return out
}

var globals = map[string]any{
	"namespace": global("namespace", func(r *run, args []any, kw []keyword) (any, error) {
		ns := &namespace{map[string]any{}}
		for _, a := range args {
			d, ok := a.(*Dict)
			if !ok {
				return nil, errors.New("namespace takes a dict or names")
			}
			if err := r.spend(entryBytes * len(d.keys)); err != nil {
				return nil, err
			}
			for i, k := range d.keys {
				name := r.str(k).s
				if err := r.scan(len(name)); err != nil {
					return nil, err
				}
				ns.attrs[name] = d.values[i]
			}
		}
		for _, k := range kw {
			ns.attrs[k.name] = k.value
		}
		return ns, nil
	}),
	"dict": global("dict", func(r *run, args []any, kw []keyword) (any, error) {
		out := NewDict()
		for _, a := range args {
			d, ok := a.(*Dict)
			if !ok {
				return nil, errors.New("dict takes a dict or names")
			}
			if err := r.merge(out, d); err != nil {
				return nil, err
			}
		}
		for _, k := range kw {
			out.SetText(Written(k.name), k.value)
		}
		return out, nil
	}),
	"range":   global("range", rangeOf),
	"cycler":  global("cycler", cycler),
	"joiner":  global("joiner", joiner),
	"lipsum":  global("lipsum", func(*run, []any, []keyword) (any, error) { return nil, errors.New("lipsum is not supported") }),
	"caller":  undefined{"'caller'"},
	"varargs": undefined{"'varargs'"},
	"raise_exception": global("raise_exception", func(r *run, args []any, kw []keyword) (any, error) {
		a, err := take([]string{"message"}, 1, args, kw)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the template refuses: %s", brief(r.str(a[0]).s))
	}),
	"strftime_now": global("strftime_now", func(r *run, args []any, kw []keyword) (any, error) {
		a, err := take([]string{"format"}, 1, args, kw)
		if err != nil {
			return nil, err
		}
		format, err := wantText(a[0])
		if err == nil {
			err = cmp.Or(r.decode(len(format.s)), r.spend(8*len(format.s)))
		}
		if err != nil {
			return nil, err
		}
		return Written(strftime(r.now, format.s)), err
	}),
}

func global(name string, f func(r *run, args []any, kw []keyword) (any, error)) *function {
	return &function{name: name, call: f}
}

const maxRange = 100_000 // as the sandbox of Jinja2 has it

func rangeOf(r *run, args []any, _ []keyword) (any, error) {
	var n [3]int64
	for i, a := range args {
		v, _, isInt, ok := number(a)
		if !ok || !isInt || i > 2 {
			return nil, errors.New("range takes one to three integers")
		}
		n[i] = v
	}
	from, to, step := n[0], n[1], n[2]
	switch len(args) {
	case 0:
		return nil, errors.New("range takes one to three integers")
	case 1:
		from, to, step = 0, n[0], 1
	case 2:
		step = 1
	}
	if step == 0 {
		return nil, errors.New("the step of range is 0")
	}
	out := NewList()
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		if len(out.items) >= maxRange {
			return nil, fmt.Errorf("%w: a range of more than %d items", ErrLimit, maxRange)
		}
		out.items = append(out.items, i)
		if next := i + step; (step > 0) != (next > i) { // past the largest integer
			break
		}
	}
	return out, r.spend(16 * len(out.items))
}

func cycler(r *run, items []any, _ []keyword) (any, error) {
	if len(items) == 0 {
		return nil, errors.New("at least one item has to be provided")
	}
	at := 0
	ns := &namespace{map[string]any{"current": items[0]}}
	move := func(to int) { at = to % len(items); ns.attrs["current"] = items[at] }
	ns.attrs["next"] = global("next", func(*run, []any, []keyword) (any, error) {
		v := items[at]
		move(at + 1)
		return v, nil
	})
	ns.attrs["reset"] = global("reset", func(*run, []any, []keyword) (any, error) { move(0); return nil, nil })
	return ns, nil
}

func joiner(r *run, args []any, kw []keyword) (any, error) {
	a, err := take([]string{"sep"}, 0, args, kw)
	if err != nil {
		return nil, err
	}
	sep, used := Written(", "), false
	if given(a[0]) {
		sep = r.str(a[0])
	}
	return global("joiner", func(*run, []any, []keyword) (any, error) {
		if !used {
			used = true
			return Text{}, nil
		}
		return sep, nil
	}), nil
}
