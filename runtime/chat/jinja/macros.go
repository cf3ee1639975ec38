package jinja

import "fmt"

// signature of a macro or a call block.
type signature struct {
	names    []string
	defaults []eval // of the last names
}

func (p *parser) signature() (g signature) {
	p.expectOp("(")
	p.list(")", func() {
		g.names = append(g.names, p.expectName())
		if p.skipOp("=") {
			g.defaults = append(g.defaults, p.expression())
		} else if g.defaults != nil {
			p.fail("a parameter without a default after one with a default")
		}
	})
	return g
}

func (p *parser) macroTag() stmt {
	name := p.expectName()
	g := p.signature()
	p.endTag()
	loops := p.loop
	p.loop = 0
	body := p.body("endmacro")
	p.loop = loops
	p.pos++
	p.endTag()
	return func(r *run, s *scope, _ *builder) error {
		s.vars[name] = g.macro(name, s, body)
		return nil
	}
}

// macro is a callable with a body; s is where it was defined.
func (g signature) macro(name string, s *scope, body stmt) *function {
	return &function{name: name, call: func(r *run, args []any, kw []keyword) (any, error) {
		done, err := r.enter()
		if err != nil {
			return nil, err
		}
		defer done()
		inner := s.child()
		if err := g.bind(r, inner, name, args, kw); err != nil {
			return nil, err
		}
		var b builder
		if err := body(r, inner, &b); err != nil {
			return nil, err
		}
		return b.text(), nil
	}}
}

func (g signature) bind(r *run, s *scope, name string, args []any, kw []keyword) error {
	varargs, kwargs := &List{tuple: true}, NewDict()
	if len(args) > len(g.names) {
		varargs.items = args[len(g.names):]
	}
	s.vars["varargs"] = varargs
	given := map[string]bool{}
	if err := r.work((1 + len(g.names)) * (1 + len(kw))); err != nil {
		return err
	}
	for i, n := range g.names {
		if i < len(args) {
			s.vars[n], given[n] = args[i], true
		}
	}
	s.vars["caller"] = undefined{"no caller defined; caller"}
	for _, k := range kw {
		known := k.name == "caller"
		for _, n := range g.names {
			known = known || n == k.name
		}
		if given[k.name] {
			return fmt.Errorf("macro %s got several values for %s", name, k.name)
		}
		if known {
			s.vars[k.name], given[k.name] = k.value, true
		} else {
			kwargs.SetText(Written(k.name), k.value)
		}
	}
	s.vars["kwargs"] = kwargs
	for i, n := range g.names {
		if given[n] {
			continue
		}
		s.vars[n] = undefined{fmt.Sprintf("parameter %q was not provided; it", n)}
		if d := i - (len(g.names) - len(g.defaults)); d >= 0 {
			v, err := g.defaults[d](r, s)
			if err != nil {
				return err
			}
			s.vars[n] = v
		}
	}
	return nil
}

func (p *parser) callTag(line int) stmt {
	var g signature
	if p.isOp("(") {
		g = p.signature()
	}
	e := p.primary()
	for n := 0; p.skipOp("."); n = p.chained(n) {
		name := p.expectName()
		obj := e
		e = func(r *run, s *scope) (any, error) {
			v, err := obj(r, s)
			if err != nil {
				return nil, err
			}
			return r.attribute(v, name)
		}
	}
	a := p.arguments()
	p.endTag()
	body := p.body("endcall")
	p.pos++
	p.endTag()
	return func(r *run, s *scope, out *builder) error {
		f, err := e(r, s)
		if err != nil {
			return at(line, err)
		}
		args, kw, err := a.eval(r, s)
		if err != nil {
			return at(line, err)
		}
		v, err := r.invoke(f, args, append(kw, keyword{"caller", g.macro("caller", s, body)}))
		if err != nil {
			return r.end(line, err)
		}
		text := r.str(v)
		if err := r.end(line, r.spend(len(text.s))); err != nil {
			return err
		}
		out.add(text)
		return nil
	}
}
