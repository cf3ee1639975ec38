package jinja

import "errors"

var errBreak, errContinue = errors.New("break"), errors.New("continue")

func (p *parser) forTag(line int) stmt {
	t := p.target(false)
	if !p.skipName("in") {
		p.fail("expected in, found %s", p.cur())
	}
	over := p.tuple(false, false)
	var cond eval
	if p.skipName("if") {
		cond = p.expression()
	}
	recursive := p.skipName("recursive")
	p.endTag()
	p.loop++
	body := p.body("endfor", "else")
	p.loop--
	var otherwise stmt
	if p.next().val == "else" {
		p.endTag()
		otherwise = p.body("endfor")
		p.pos++
	}
	p.endTag()
	f := &forLoop{line: line, target: t, cond: cond, body: body, otherwise: otherwise, recursive: recursive}
	return func(r *run, s *scope, out *builder) error {
		v, err := over(r, s)
		if err != nil {
			return at(line, err)
		}
		return f.run(r, s, out, v, 1)
	}
}

type forLoop struct {
	line      int
	target    target
	cond      eval
	body      stmt
	otherwise stmt
	recursive bool
}

func (f *forLoop) run(r *run, s *scope, out *builder, over any, depth int) error {
	items, err := r.iterate(over)
	if err != nil {
		return at(f.line, err)
	}
	if f.cond != nil {
		var kept []any
		for _, v := range items {
			inner := s.child()
			if err := f.target.assign(r, inner, v); err != nil {
				return at(f.line, err)
			}
			if err := r.work(roundSteps); err != nil {
				return at(f.line, err)
			}
			ok, err := f.cond(r, inner)
			if err != nil {
				return at(f.line, err)
			}
			if truth(ok) {
				if err := r.spend(itemBytes); err != nil {
					return at(f.line, err)
				}
				kept = append(kept, v)
			}
		}
		items = kept
	}
	if len(items) == 0 && f.otherwise != nil {
		return f.otherwise(r, s.child(), out)
	}
	l := &loop{items: items, depth: depth, changed: new([]any)}
	if f.recursive {
		l.again = func(r *run, args []any) (any, error) { return f.again(r, s, args, depth) }
	}
	for i, v := range items {
		if err := r.work(roundSteps); err != nil {
			return at(f.line, err)
		}
		inner := s.child()
		here := *l
		here.index = i
		inner.vars["loop"] = &here
		if err := f.target.assign(r, inner, v); err != nil {
			return at(f.line, err)
		}
		err := f.body(r, inner, out)
		if errors.Is(err, errBreak) {
			break
		}
		if err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
	return nil
}

// again is a call of loop() in a recursive loop.
func (f *forLoop) again(r *run, s *scope, args []any, depth int) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("loop() takes one argument")
	}
	done, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer done()
	var b builder
	err = f.run(r, s, &b, args[0], depth+1)
	return b.text(), err
}

func (l *loop) attribute(name string) (any, bool) {
	neighbour := func(i int) any {
		if i < 0 || i >= len(l.items) {
			return undefined{"there is no such item; it"}
		}
		return l.items[i]
	}
	n := len(l.items)
	switch name {
	case "index":
		return int64(l.index + 1), true
	case "index0":
		return int64(l.index), true
	case "revindex":
		return int64(n - l.index), true
	case "revindex0":
		return int64(n - l.index - 1), true
	case "first":
		return l.index == 0, true
	case "last":
		return l.index == n-1, true
	case "length":
		return int64(n), true
	case "depth":
		return int64(l.depth), true
	case "depth0":
		return int64(l.depth - 1), true
	case "previtem":
		return neighbour(l.index - 1), true
	case "nextitem":
		return neighbour(l.index + 1), true
	case "cycle":
		return &function{name: name, call: func(r *run, args []any, _ []keyword) (any, error) {
			if len(args) == 0 {
				return nil, errors.New("no items for cycling given")
			}
			return args[l.index%len(args)], nil
		}}, true
	case "changed":
		return &function{name: name, call: func(r *run, args []any, _ []keyword) (any, error) {
			same := *l.changed != nil && r.equal(&List{items: *l.changed}, &List{items: args})
			*l.changed = args
			return !same, nil
		}}, true
	}
	return nil, false
}
