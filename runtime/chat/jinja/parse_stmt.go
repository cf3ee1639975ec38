package jinja

import "errors"

// stmt writes what a piece of a template writes.
type stmt func(r *run, s *scope, out *builder) error

// Template is a parsed template, safe for concurrent use.
type Template struct{ body stmt }

// Parse reads a template. Errors are [Error] or [ErrLimit].
func Parse(source string) (t *Template, err error) {
	toks, err := lex(source)
	if err != nil {
		return nil, err
	}
	defer func() {
		if v := recover(); v != nil {
			b, ok := v.(bad)
			if !ok {
				panic(v)
			}
			t, err = nil, b.err
		}
	}()
	p := &parser{toks: toks}
	body := p.body()
	if p.cur().kind != tokEOF {
		p.fail("unexpected %s", p.cur())
	}
	return &Template{body}, nil
}

// body reads statements up to the end or a tag with one of the names; that tag
// is entered, not read: its name is current.
func (p *parser) body(until ...string) stmt {
	defer p.nest()()
	var list []stmt
	var lines []int
	for {
		t := p.cur()
		lines = append(lines, t.line)
		switch t.kind {
		case tokData:
			p.pos++
			text := Written(t.val)
			list = append(list, func(r *run, _ *scope, out *builder) error {
				out.add(text)
				return r.spend(len(text.s))
			})
		case tokOutput:
			p.pos++
			list = append(list, p.output(t.line))
		case tokBlock:
			p.pos++
			if p.isName(until...) {
				return all(list, lines)
			}
			list = append(list, p.statement(t.line))
		default:
			if until != nil {
				p.fail("expected %s, found %s", until[len(until)-1], t)
			}
			return all(list, lines)
		}
	}
}

func all(list []stmt, lines []int) stmt {
	return func(r *run, s *scope, out *builder) error {
		for i, st := range list {
			if err := r.step(); err != nil {
				return at(lines[i], err)
			}
			if err := st(r, s, out); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *parser) endTag() {
	if p.cur().kind != tokEnd {
		p.fail("expected the end of the tag, found %s", p.cur())
	}
	p.pos++
}

func (p *parser) output(line int) stmt {
	e := p.tuple(false, true)
	p.endTag()
	return func(r *run, s *scope, out *builder) error {
		v, err := e(r, s)
		if err != nil {
			return at(line, err)
		}
		text := r.str(v)
		if err := r.end(line, r.spend(len(text.s))); err != nil {
			return err
		}
		out.add(text)
		return nil
	}
}

func (p *parser) statement(line int) stmt {
	if p.cur().kind != tokName {
		p.fail("a tag begins with %s", p.cur())
	}
	switch name := p.next().val; name {
	case "if":
		return p.ifTag()
	case "for":
		return p.forTag(line)
	case "set":
		return p.setTag(line)
	case "macro":
		return p.macroTag()
	case "call":
		return p.callTag(line)
	case "filter":
		return p.filterTag(line)
	case "with":
		return p.withTag()
	case "generation": // marks the assistant's tokens for training
		p.endTag()
		body := p.body("endgeneration")
		p.pos++
		p.endTag()
		return func(r *run, s *scope, out *builder) error { return body(r, s.child(), out) }
	case "break", "continue":
		if p.loop == 0 {
			p.fail("%s outside of a loop", name)
		}
		p.endTag()
		leave := errBreak
		if name == "continue" {
			leave = errContinue
		}
		return func(*run, *scope, *builder) error { return leave }
	default:
		p.pos--
		p.fail("unknown tag %q: a chat template can use if, for, set, macro, call, filter, with, raw, generation, break and continue", name)
		return nil
	}
}

func (p *parser) ifTag() stmt {
	var tests []eval
	var bodies []stmt
	for {
		line := p.cur().line
		e := p.tuple(false, false)
		tests = append(tests, func(r *run, s *scope) (any, error) {
			v, err := e(r, s)
			return v, at(line, err)
		})
		p.endTag()
		bodies = append(bodies, p.body("elif", "else", "endif"))
		if p.skipName("elif") {
			continue
		}
		if p.skipName("else") {
			p.endTag()
			bodies = append(bodies, p.body("endif"))
		}
		p.pos++
		p.endTag()
		break
	}
	return func(r *run, s *scope, out *builder) error {
		for i, e := range tests {
			v, err := e(r, s)
			if err != nil {
				return err
			}
			if truth(v) {
				return bodies[i](r, s, out)
			}
		}
		if len(bodies) > len(tests) {
			return bodies[len(tests)](r, s, out)
		}
		return nil
	}
}

// target is what is assigned to: a name, an attribute of a namespace, or
// several targets.
type target struct {
	name, attr string
	parts      []target
}

func (p *parser) target(attributes bool) target {
	var list []target
	many := false
	for {
		parenthesis := p.skipOp("(")
		var t target
		if parenthesis {
			t = p.target(attributes)
			p.expectOp(")")
		} else {
			t.name = p.expectName()
			if attributes && p.skipOp(".") {
				t.attr = p.expectName()
			}
		}
		list = append(list, t)
		if !p.skipOp(",") {
			break
		}
		many = true
		if p.isName("in") || p.isOp("=", ")") || p.cur().kind == tokEnd {
			break
		}
	}
	if len(list) == 1 && !many {
		return list[0]
	}
	return target{parts: list}
}

func (t target) assign(r *run, s *scope, v any) error {
	switch {
	case t.parts != nil:
		items, err := r.iterate(v)
		if err != nil {
			return err
		}
		if len(items) != len(t.parts) {
			return errors.New("the number of values to unpack is not the number of names")
		}
		for i, part := range t.parts {
			if err := part.assign(r, s, items[i]); err != nil {
				return err
			}
		}
	case t.attr != "":
		ns, ok := s.get(t.name).(*namespace)
		if !ok {
			return errors.New("cannot assign attribute on non-namespace object")
		}
		ns.attrs[t.attr] = v
	default:
		s.vars[t.name] = v
	}
	return nil
}

func (p *parser) setTag(line int) stmt {
	t := p.target(true)
	if p.skipOp("=") {
		e := p.tuple(false, true)
		p.endTag()
		return func(r *run, s *scope, _ *builder) error {
			v, err := e(r, s)
			if err == nil {
				err = t.assign(r, s, v)
			}
			return at(line, err)
		}
	}
	value := p.filtered(line, "endset", p.skipOp("|"))
	return func(r *run, s *scope, _ *builder) error {
		v, err := value(r, s)
		if err == nil {
			err = at(line, t.assign(r, s, v))
		}
		return err
	}
}

func (p *parser) filterTag(line int) stmt {
	value := p.filtered(line, "endfilter", true)
	return func(r *run, s *scope, out *builder) error {
		v, err := value(r, s)
		if err == nil {
			out.add(r.str(v))
		}
		return r.end(line, err)
	}
}

// filtered reads a chain of filters, if there is one, the end of the tag and a
// body: it gives what the filters make of what the body writes.
func (p *parser) filtered(line int, end string, chain bool) eval {
	type link struct {
		f filterFunc
		a arguments
	}
	var links []link
	for ; chain; chain = p.skipOp("|") {
		f, a := p.filterCall()
		links = append(links, link{f, a})
	}
	p.endTag()
	body := p.body(end)
	p.pos++
	p.endTag()
	return func(r *run, s *scope) (any, error) {
		var b builder
		if err := body(r, s.child(), &b); err != nil {
			return nil, err
		}
		var v any = b.text()
		for _, l := range links {
			var err error
			if v, err = runFilter(r, s, l.f, l.a, v); err != nil {
				return nil, r.end(line, err)
			}
		}
		return v, r.end(line, nil)
	}
}

func (p *parser) withTag() stmt {
	var names []target
	var values []eval
	for p.cur().kind != tokEnd {
		if names != nil {
			p.expectOp(",")
		}
		names = append(names, p.target(false))
		p.expectOp("=")
		values = append(values, p.expression())
	}
	p.endTag()
	body := p.body("endwith")
	p.pos++
	p.endTag()
	return func(r *run, s *scope, out *builder) error {
		inner := s.child()
		for i, e := range values {
			v, err := e(r, s)
			if err != nil {
				return err
			}
			if err := names[i].assign(r, inner, v); err != nil {
				return err
			}
		}
		return body(r, inner, out)
	}
}
