package declaration

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// group reads what follows an opening parenthesis, up to the closing one.
func (p *python) group() (piece, error) {
	switch {
	case !p.accept("?"):
		return p.capture("")
	case p.accept(":"):
		return p.inner("(?:", "(?:")
	case p.accept(">"):
		p.plain = false
		return p.inner("(?>", "")
	case p.accept("="), p.accept("!"):
		return p.look(string(p.src[p.at-1]), false)
	case p.accept("<="), p.accept("<!"):
		return p.look("<"+string(p.src[p.at-1]), true)
	case p.accept("#"):
		for p.at < len(p.src) && p.src[p.at] != ')' {
			p.at++
		}
		if !p.accept(")") {
			return piece{}, errors.New("missing ), unterminated comment")
		}
		return piece{kind: nothing}, nil
	case p.accept("P<"):
		name, err := p.name('>')
		if err != nil {
			return piece{}, err
		}
		return p.capture(name)
	case p.accept("P="):
		name, err := p.name(')')
		if err != nil {
			return piece{}, err
		}
		n, ok := p.names[name]
		if !ok {
			return piece{}, fmt.Errorf("unknown group name %q", name)
		}
		return p.referTo(n)
	case p.accept("("):
		return p.conditional()
	}
	return p.scopedFlags()
}

// capture reads a group with a number. No text of it is ever asked for, only
// references within the expression need it.
func (p *python) capture(name string) (piece, error) {
	n := len(p.groups)
	p.groups = append(p.groups, width{})
	p.open[n] = true
	if name != "" {
		if _, ok := p.names[name]; ok {
			return piece{}, fmt.Errorf("redefinition of group name %q", name)
		}
		p.names[name] = n
	}
	out, err := p.inner(fmt.Sprintf("(?<%d>", n), "(?:")
	delete(p.open, n)
	p.groups[n] = out.width
	return out, err
}

// inner reads alternatives and the closing parenthesis.
func (p *python) inner(net, re2 string) (piece, error) {
	verbose := p.verbose
	out, err := p.alternatives()
	p.verbose = verbose
	if err != nil {
		return out, err
	}
	if !p.accept(")") {
		return out, errors.New("missing ), unterminated subpattern")
	}
	out.net, out.re2, out.kind = net+out.net+")", re2+out.re2+")", atom
	return out, nil
}

// look reads an assertion about what follows or what stands before.
func (p *python) look(sign string, behind bool) (piece, error) {
	p.plain = false
	out, err := p.inner("(?"+sign, "")
	if err == nil && behind && out.lo != out.hi {
		err = errors.New("look-behind requires fixed-width pattern")
	}
	out.width = width{}
	return out, err
}

// conditional reads (?(group)yes|no), after its second parenthesis.
func (p *python) conditional() (piece, error) {
	p.plain = false
	name, err := p.name(')')
	if err != nil {
		return piece{}, err
	}
	n, ok := p.names[name]
	if !ok {
		if n, err = strconv.Atoi(name); err != nil || n <= 0 || n >= len(p.groups) {
			return piece{}, fmt.Errorf("invalid group reference %q", name)
		}
	}
	yes, err := p.sequence()
	if err != nil {
		return yes, err
	}
	no := piece{}
	if p.accept("|") {
		if no, err = p.sequence(); err != nil {
			return no, err
		}
	}
	if r, _ := p.peek(); r == '|' {
		return no, errors.New("conditional backref with more than two branches")
	}
	if !p.accept(")") {
		return no, errors.New("missing ), unterminated subpattern")
	}
	return piece{net: fmt.Sprintf("(?(%d)%s|%s)", n, yes.net, no.net), width: width{min(yes.lo, no.lo), max(yes.hi, no.hi)}}, nil
}

// scopedFlags reads (?i-s:…). Flags of the whole expression stand at its
// start only.
func (p *python) scopedFlags() (piece, error) {
	on, off := p.flagLetters(), ""
	if p.accept("-") {
		if off = p.flagLetters(); off == "" || strings.ContainsAny(off, "auL") {
			return piece{}, errors.New("bad inline flags")
		}
	}
	if on == "" && off == "" {
		return piece{}, errors.New("unknown extension")
	}
	if p.accept(")") {
		return piece{}, errors.New("global flags not at the start of the expression")
	}
	if !p.accept(":") || strings.ContainsAny(on, off) && off != "" {
		return piece{}, errors.New("bad inline flags")
	}
	netOn, err := p.flags(on)
	if err != nil {
		return piece{}, err
	}
	netOff, err := p.flags(off)
	if err != nil {
		return piece{}, err
	}
	if netOff != "" {
		netOff = "-" + netOff
	}
	verbose := p.verbose
	p.verbose = (verbose || strings.Contains(on, "x")) && !strings.Contains(off, "x")
	open := "(?" + netOn + netOff + ":"
	out, err := p.inner(open, "(?:")
	p.verbose = verbose
	return out, err
}

// name reads the name or number of a group up to its end.
func (p *python) name(end rune) (string, error) {
	start := p.at
	for p.at < len(p.src) && p.src[p.at] != end {
		p.at++
	}
	name := string(p.src[start:p.at])
	if !p.accept(string(end)) {
		return "", fmt.Errorf("missing %c, unterminated name", end)
	}
	if name == "" {
		return "", errors.New("missing group name")
	}
	for i, r := range name {
		if r != '_' && !isLetter(r) && r < 0x80 && (!isDigit(r) || i == 0 && end == '>') {
			return "", fmt.Errorf("bad character in group name %q", name)
		}
	}
	return name, nil
}

// class reads a set of characters after its opening bracket.
func (p *python) class() (piece, error) {
	var c set
	c.negated = p.accept("^")
	for first := true; ; first = false {
		r, ok := p.peek()
		if !ok {
			return piece{}, errors.New("unterminated character set")
		}
		if r == ']' && !first {
			p.at++
			return c.piece(), nil
		}
		lo, one, err := p.member()
		if err != nil {
			return piece{}, err
		}
		if p.at+1 >= len(p.src) || p.src[p.at] != '-' || p.src[p.at+1] == ']' {
			c.add(one)
			continue
		}
		p.at++
		hi, other, err := p.member()
		switch {
		case err != nil:
			return piece{}, err
		case one.kind == anchor || other.kind == anchor || lo > hi:
			return piece{}, errors.New("bad character range")
		}
		c.add(piece{net: one.net + "-" + other.net, re2: one.re2 + "-" + other.re2})
	}
}

// set collects the members of a class. Complements (\W) stand apart in .NET's
// syntax, where a class cannot hold the complement of another in full.
type set struct {
	negated  bool
	net, re2 strings.Builder
	others   []string
}

func (c *set) add(member piece) {
	c.re2.WriteString(member.re2)
	if member.kind == anchor && strings.HasPrefix(member.net, "[^") {
		c.others = append(c.others, member.net)
		return
	}
	c.net.WriteString(member.net)
}

func (c *set) piece() piece {
	sign := ""
	if c.negated {
		sign = "^"
	}
	out := piece{net: "[" + sign + c.net.String() + "]", re2: "[" + sign + c.re2.String() + "]", width: width{1, 1}}
	if len(c.others) == 0 {
		return out
	}
	all := c.others
	if c.net.Len() > 0 {
		all = append(all, "["+c.net.String()+"]")
	}
	out.net = "(?:" + strings.Join(all, "|") + ")"
	if c.negated {
		out.net = "(?:(?!" + out.net + `)[\s\S])`
	}
	return out
}

// member reads one member of a set: a character, or a class of them, whose
// kind is anchor since no range can begin or end with it.
func (p *python) member() (rune, piece, error) {
	r := p.src[p.at]
	p.at++
	if r == '\\' {
		next, ok := p.peek()
		if !ok {
			return 0, piece{}, errors.New("bad escape (end of pattern)")
		}
		p.at++
		switch next {
		case 'w':
			return 0, piece{net: `\p{L}\p{N}_`, re2: `\w`, kind: anchor}, nil
		case 's':
			return 0, piece{net: `\s\x1c-\x1f`, re2: `\s`, kind: anchor}, nil
		case 'd':
			return 0, piece{net: `\d`, re2: `\d`, kind: anchor}, nil
		case 'D':
			return 0, piece{net: `[^\d]`, re2: `\D`, kind: anchor}, nil
		case 'W':
			return 0, piece{net: `[^\p{L}\p{N}_]`, re2: `\W`, kind: anchor}, nil
		case 'S':
			return 0, piece{net: `[^\s\x1c-\x1f]`, re2: `\S`, kind: anchor}, nil
		case 'b':
			r = '\b'
		default:
			var err error
			if r, err = p.character(next); err != nil {
				return 0, piece{}, err
			}
		}
	}
	text := quote(r)
	return r, piece{net: text, re2: text}, nil
}
