package jinja

import "slices"

func (p *parser) postfix(e eval) eval {
	for n := 0; ; n = p.chained(n) {
		switch {
		case p.skipOp("."):
			t := p.next()
			switch {
			case t.kind == tokName:
				obj := e
				e = func(r *run, s *scope) (any, error) {
					v, err := obj(r, s)
					if err != nil {
						return nil, err
					}
					got, err := r.attribute(v, t.val)
					return got, r.end(t.line, err)
				}
			case t.kind == tokNumber:
				e = subscript(e, constant(t.lit), t.line)
			default:
				p.fail("expected a name or a number after the point, found %s", t)
			}
		case p.isOp("["):
			line := p.next().line
			e = p.bracket(e, line)
		case p.isOp("("):
			e = p.call(e)
		default:
			return e
		}
	}
}

func subscript(obj, key eval, line int) eval {
	return func(r *run, s *scope) (any, error) {
		v, err := obj(r, s)
		if err != nil {
			return nil, err
		}
		k, err := key(r, s)
		if err != nil {
			return nil, err
		}
		got, err := r.item(v, k)
		return got, r.end(line, err)
	}
}

// bracket reads an index or a slice.
func (p *parser) bracket(obj eval, line int) eval {
	var parts [3]eval
	colons := 0
	for !p.skipOp("]") {
		if p.skipOp(":") {
			if colons++; colons > 2 {
				p.fail("a slice has at most three parts")
			}
			continue
		}
		if colons == 0 && parts[0] != nil && p.isOp(",") { // a tuple for an index
			list := parts[:1]
			for p.skipOp(",") {
				list = append(list, p.expression())
			}
			parts[0] = sequence(slices.Clone(list), true)
			continue
		}
		if parts[colons] != nil {
			p.fail("expected ], found %s", p.cur())
		}
		parts[colons] = p.expression()
	}
	if colons == 0 {
		if parts[0] == nil {
			parts[0] = sequence(nil, true)
		}
		return subscript(obj, parts[0], line)
	}
	return func(r *run, s *scope) (any, error) {
		v, err := obj(r, s)
		if err != nil {
			return nil, err
		}
		var bounds [3]any
		for i, e := range parts {
			if e != nil {
				if bounds[i], err = e(r, s); err != nil {
					return nil, err
				}
			}
		}
		got, err := r.slice(v, bounds)
		return got, r.end(line, err)
	}
}

// arguments of a call.
type arguments struct {
	args   []eval
	names  []string
	values []eval
	spread eval // *args
	dict   eval // **kwargs
}

func (p *parser) arguments() (a arguments) {
	p.expectOp("(")
	seen := map[string]bool{}
	p.list(")", func() {
		switch {
		case p.skipOp("**"):
			a.dict = p.expression()
		case p.skipOp("*"):
			a.spread = p.expression()
		case p.cur().kind == tokName && p.toks[p.pos+1].kind == tokOp && p.toks[p.pos+1].val == "=":
			name := p.next().val
			if seen[name] {
				p.fail("argument %s is given twice", name)
			}
			seen[name] = true
			p.pos++
			a.names = append(a.names, name)
			a.values = append(a.values, p.expression())
		default:
			if a.names != nil || a.spread != nil || a.dict != nil {
				p.fail("a positional argument after a named one")
			}
			a.args = append(a.args, p.expression())
		}
	})
	return a
}

func (a arguments) eval(r *run, s *scope) (args []any, kw []keyword, err error) {
	for _, e := range a.args {
		v, err := e(r, s)
		if err != nil {
			return nil, nil, err
		}
		args = append(args, v)
	}
	if a.spread != nil {
		v, err := a.spread(r, s)
		if err != nil {
			return nil, nil, err
		}
		more, err := r.iterate(v)
		if err == nil {
			err = r.spend(itemBytes * len(more))
		}
		if err != nil {
			return nil, nil, err
		}
		args = append(args, more...)
	}
	for i, e := range a.values {
		v, err := e(r, s)
		if err != nil {
			return nil, nil, err
		}
		kw = append(kw, keyword{a.names[i], v})
	}
	if a.dict != nil {
		v, err := a.dict(r, s)
		if err != nil {
			return nil, nil, err
		}
		if d, ok := v.(*Dict); ok {
			if err := r.spend(entryBytes * len(d.keys)); err != nil {
				return nil, nil, err
			}
			for i, k := range d.keys {
				name := r.str(k).s
				if err := r.scan(4 * len(name)); err != nil { // it will be hashed, perhaps some times
					return nil, nil, err
				}
				kw = append(kw, keyword{name, d.values[i]})
			}
		}
	}
	return args, kw, r.spend(16 * len(args))
}

func (p *parser) call(f eval) eval {
	line := p.cur().line
	a := p.arguments()
	return func(r *run, s *scope) (any, error) {
		v, err := f(r, s)
		if err != nil {
			return nil, err
		}
		args, kw, err := a.eval(r, s)
		if err != nil {
			return nil, err
		}
		got, err := r.invoke(v, args, kw)
		return got, r.end(line, err)
	}
}

// filter reads what follows a pipe.
func (p *parser) filter(e eval) eval {
	line := p.cur().line
	f, a := p.filterCall()
	return func(r *run, s *scope) (any, error) {
		v, err := e(r, s)
		if err != nil {
			return nil, err
		}
		got, err := runFilter(r, s, f, a, v)
		return got, r.end(line, err)
	}
}

func (p *parser) filterCall() (filterFunc, arguments) {
	name := p.expectName()
	f, ok := filters[name]
	if !ok {
		p.fail("no filter named %q", name)
	}
	var a arguments
	if p.isOp("(") {
		a = p.arguments()
	}
	return f, a
}

func runFilter(r *run, s *scope, f filterFunc, a arguments, v any) (any, error) {
	args, kw, err := a.eval(r, s)
	if err != nil {
		return nil, err
	}
	if err := r.step(); err != nil {
		return nil, err
	}
	return f(r, v, args, kw)
}

// test reads what follows "is".
func (p *parser) test(e eval) eval {
	line := p.cur().line
	negated := p.skipName("not")
	name := p.expectName()
	f, ok := tests[name]
	if !ok {
		p.fail("no test named %q", name)
	}
	var a arguments
	switch c := p.cur(); {
	case p.isOp("("):
		a = p.arguments()
	case p.isName("is"):
		p.fail("tests cannot be chained with is")
	case c.kind == tokString, c.kind == tokNumber, p.isOp("[", "{"), c.kind == tokName && !p.isName("else", "or", "and", "if", "in", "not"):
		a.args = []eval{p.postfix(p.primary())}
	}
	return func(r *run, s *scope) (any, error) {
		v, err := e(r, s)
		if err != nil {
			return nil, err
		}
		args, _, err := a.eval(r, s)
		if err != nil {
			return nil, err
		}
		if err := r.step(); err != nil {
			return nil, at(line, err)
		}
		ok, err := f(r, v, args)
		return ok != negated, r.end(line, err)
	}
}
