package jinja

import (
	"fmt"
	"slices"
	"strings"
)

// eval computes an expression.
type eval func(r *run, s *scope) (any, error)

type parser struct {
	toks []token
	pos  int
	deep int
	loop int // loops around the statement, for break and continue
}

func (p *parser) cur() token { return p.toks[p.pos] }

func (p *parser) next() token {
	t := p.toks[p.pos]
	if p.pos < len(p.toks)-1 {
		p.pos++
	}
	return t
}

func (p *parser) isOp(ops ...string) bool {
	return p.cur().kind == tokOp && slices.Contains(ops, p.cur().val)
}

func (p *parser) isName(names ...string) bool {
	return p.cur().kind == tokName && slices.Contains(names, p.cur().val)
}

func (p *parser) skipOp(op string) bool {
	ok := p.isOp(op)
	if ok {
		p.pos++
	}
	return ok
}

func (p *parser) skipName(name string) bool {
	ok := p.isName(name)
	if ok {
		p.pos++
	}
	return ok
}

// bad is what parsing panics with; Parse turns it into an error.
type bad struct{ err *Error }

func (p *parser) fail(format string, args ...any) {
	panic(bad{&Error{Line: p.cur().line, Err: fmt.Errorf(format, args...)}})
}

func (p *parser) expectOp(op string) {
	if !p.skipOp(op) {
		p.fail("expected %q, found %s", op, p.cur())
	}
}

func (p *parser) expectName() string {
	if p.cur().kind != tokName {
		p.fail("expected a name, found %s", p.cur())
	}
	return p.next().val
}

// nest bounds recursion; the result is to be deferred.
func (p *parser) nest() func() {
	if p.deep++; p.deep > maxNesting {
		p.fail("nested deeper than %d: %w", maxNesting, ErrLimit)
	}
	return func() { p.deep-- }
}

// chained bounds what follows one another without brackets: each operator
// calls the one before it. It returns the number of the next.
func (p *parser) chained(n int) int {
	if n >= maxChain {
		p.fail("more than %d operators in a row: %w", maxChain, ErrLimit)
	}
	return n + 1
}

func (p *parser) expression() eval {
	defer p.nest()()
	e := p.or()
	for n := 0; p.skipName("if"); n = p.chained(n) {
		cond, then := p.or(), e
		other := func(*run, *scope) (any, error) {
			return undefined{"the inline if-expression evaluated to false and no else section was defined; it"}, nil
		}
		var otherwise eval = other
		if p.skipName("else") {
			otherwise = p.expression()
		}
		e = func(r *run, s *scope) (any, error) {
			c, err := cond(r, s)
			if err != nil {
				return nil, err
			}
			if truth(c) {
				return then(r, s)
			}
			return otherwise(r, s)
		}
	}
	return e
}

func (p *parser) or() eval {
	e := p.and()
	for n := 0; p.skipName("or"); n = p.chained(n) {
		e = lazily(e, p.and(), true)
	}
	return e
}

func (p *parser) and() eval {
	e := p.not()
	for n := 0; p.skipName("and"); n = p.chained(n) {
		e = lazily(e, p.not(), false)
	}
	return e
}

// lazily is "or" (stop true) or "and": the operand that decides is the value.
func lazily(a, b eval, stop bool) eval {
	return func(r *run, s *scope) (any, error) {
		v, err := a(r, s)
		if err != nil || truth(v) == stop {
			return v, err
		}
		return b(r, s)
	}
}

func (p *parser) not() eval {
	if !p.skipName("not") {
		return p.compare()
	}
	defer p.nest()()
	e := p.not()
	return func(r *run, s *scope) (any, error) {
		v, err := e(r, s)
		return !truth(v), err
	}
}

// comparisons are operators that follow one another as in a < b < c; in and not
// in do too.
var comparisons = []string{"==", "!=", "<", "<=", ">", ">="}

func (p *parser) compare() eval {
	first := p.binary(0)
	var ops []string
	var rest []eval
	for {
		switch {
		case p.isOp(comparisons...):
			ops = append(ops, p.next().val)
		case p.skipName("in"):
			ops = append(ops, "in")
		case p.isName("not") && p.toks[p.pos+1].kind == tokName && p.toks[p.pos+1].val == "in":
			p.pos += 2
			ops = append(ops, "not in")
		default:
			if len(ops) == 0 {
				return first
			}
			return chain(first, ops, rest)
		}
		rest = append(rest, p.binary(0))
	}
}

func chain(first eval, ops []string, rest []eval) eval {
	return func(r *run, s *scope) (any, error) {
		a, err := first(r, s)
		for i := 0; i < len(ops) && err == nil; i++ {
			var b any
			if b, err = rest[i](r, s); err != nil {
				break
			}
			var ok bool
			if ok, err = r.relation(ops[i], a, b); err != nil || !ok {
				return false, err
			}
			a = b
		}
		return err == nil, err
	}
}

// levels of binary operators, the loosest first.
var levels = [][]string{{"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}}

func (p *parser) binary(level int) eval {
	if level == len(levels) {
		return p.unary(true)
	}
	e := p.binary(level + 1)
	for n := 0; p.isOp(levels[level]...); n = p.chained(n) {
		op, line := p.next().val, p.cur().line
		a, b := e, p.binary(level+1)
		e = func(r *run, s *scope) (any, error) {
			x, err := a(r, s)
			if err != nil {
				return nil, err
			}
			y, err := b(r, s)
			if err != nil {
				return nil, err
			}
			v, err := r.arithmetic(op, x, y)
			return v, r.end(line, err)
		}
	}
	return e
}

func (p *parser) unary(filters bool) eval {
	defer p.nest()()
	var e eval
	switch {
	case p.isOp("-", "+"):
		op := p.next().val
		v := p.unary(false)
		e = func(r *run, s *scope) (any, error) {
			x, err := v(r, s)
			if err != nil {
				return nil, err
			}
			return r.arithmetic(op, int64(0), x)
		}
	default:
		e = p.primary()
	}
	e = p.postfix(e)
	for n := 0; filters; n = p.chained(n) {
		switch {
		case p.skipOp("|"):
			e = p.filter(e)
		case p.skipName("is"):
			e = p.test(e)
		case p.isOp("("):
			e = p.call(e)
		default:
			return e
		}
	}
	return e
}

func constant(v any) eval { return func(*run, *scope) (any, error) { return v, nil } }

func (p *parser) primary() eval {
	t := p.cur()
	switch t.kind {
	case tokName:
		p.pos++
		switch t.val {
		case "true", "True":
			return constant(true)
		case "false", "False":
			return constant(false)
		case "none", "None":
			return constant(nil)
		}
		return func(r *run, s *scope) (any, error) { return s.get(t.val), nil }
	case tokString:
		var text strings.Builder
		for p.cur().kind == tokString {
			text.WriteString(p.next().lit.(string))
		}
		return constant(Written(text.String()))
	case tokNumber:
		p.pos++
		return constant(t.lit)
	case tokOp:
		switch t.val {
		case "(":
			p.pos++
			e := p.tuple(true, true)
			p.expectOp(")")
			return e
		case "[":
			p.pos++
			return sequence(p.elements("]"), false)
		case "{":
			p.pos++
			return p.dict()
		}
	}
	p.fail("unexpected %s", t)
	return nil
}

// list reads items with commas up to a closing bracket; one may follow the last.
func (p *parser) list(end string, item func()) {
	for first := true; !p.skipOp(end); first = false {
		if !first {
			p.expectOp(",")
			if p.skipOp(end) {
				break
			}
		}
		item()
	}
}

// elements reads expressions up to a closing bracket.
func (p *parser) elements(end string) (list []eval) {
	p.list(end, func() { list = append(list, p.expression()) })
	return list
}

func sequence(list []eval, tuple bool) eval {
	return func(r *run, s *scope) (any, error) {
		if err := r.spend(listBytes + itemBytes*len(list)); err != nil {
			return nil, err
		}
		out := &List{items: make([]any, len(list)), tuple: tuple}
		for i, e := range list {
			v, err := e(r, s)
			if err != nil {
				return nil, err
			}
			out.items[i] = v
		}
		return out, nil
	}
}

func (p *parser) dict() eval {
	var keys, values []eval
	p.list("}", func() {
		keys = append(keys, p.expression())
		p.expectOp(":")
		values = append(values, p.expression())
	})
	return func(r *run, s *scope) (any, error) {
		d := NewDict()
		if err := r.spend(entryBytes * (1 + len(keys))); err != nil {
			return nil, err
		}
		for i := range keys {
			k, err := keys[i](r, s)
			if err != nil {
				return nil, err
			}
			h, err := r.hashOf(k)
			if err != nil {
				return nil, err
			}
			v, err := values[i](r, s)
			if err != nil {
				return nil, err
			}
			d.set(k, h, v)
		}
		return d, nil
	}
}

// tuple reads an expression, or several with commas.
func (p *parser) tuple(parentheses, conditional bool) eval {
	one := p.expression
	if !conditional {
		one = p.or
	}
	var list []eval
	many := false
	for {
		if list != nil && !p.skipOp(",") {
			break
		}
		many = list != nil
		if p.cur().kind == tokEnd || p.isOp(")") || p.isName("recursive") {
			break
		}
		list = append(list, one())
	}
	if list == nil && !parentheses {
		p.fail("expected an expression, found %s", p.cur())
	}
	if len(list) == 1 && !many {
		return list[0]
	}
	return sequence(list, true)
}
