package declaration

import (
	"errors"
	"fmt"
	"strconv"
	"unicode"
)

// escape reads what follows a backslash outside a class.
func (p *python) escape() (piece, error) {
	r, ok := p.peek()
	if !ok {
		return piece{}, errors.New("bad escape (end of pattern)")
	}
	p.at++
	one := width{1, 1}
	switch r {
	case 'A':
		return piece{net: `\A`, re2: `\A`, kind: anchor}, nil
	case 'Z':
		return piece{net: `\z`, re2: `\z`, kind: anchor}, nil
	case 'b', 'B':
		return piece{net: `\` + string(r), re2: `\` + string(r), kind: anchor}, nil
	case 'w':
		return piece{net: `[\p{L}\p{N}_]`, re2: `\w`, width: one}, nil
	case 'W':
		return piece{net: `[^\p{L}\p{N}_]`, re2: `\W`, width: one}, nil
	case 's':
		return piece{net: `[\s\x1c-\x1f]`, re2: `\s`, width: one}, nil
	case 'S':
		return piece{net: `[^\s\x1c-\x1f]`, re2: `\S`, width: one}, nil
	case 'd', 'D':
		return piece{net: `\` + string(r), re2: `\` + string(r), width: one}, nil
	}
	if isDigit(r) && r != '0' && !p.octal(r) {
		return p.reference(r)
	}
	c, err := p.character(r)
	if err != nil {
		return piece{}, err
	}
	text := quote(c)
	return piece{net: text, re2: text, width: one}, nil
}

// octal tells whether three octal digits follow the backslash.
func (p *python) octal(first rune) bool {
	return isOctal(first) && p.at+1 < len(p.src) && isOctal(p.src[p.at]) && isOctal(p.src[p.at+1])
}

// reference reads the number of a group whose text must come again.
func (p *python) reference(first rune) (piece, error) {
	n := int(first - '0')
	if r, ok := p.peek(); ok && isDigit(r) {
		n = n*10 + int(r-'0')
		p.at++
	}
	return p.referTo(n)
}

func (p *python) referTo(n int) (piece, error) {
	switch {
	case n >= len(p.groups):
		return piece{}, fmt.Errorf("invalid group reference %d", n)
	case p.open[n]:
		return piece{}, errors.New("cannot refer to an open group")
	}
	p.plain = false
	return piece{net: fmt.Sprintf(`(?:\k<%d>)`, n), width: p.groups[n]}, nil
}

// character reads the escapes that stand for one character, inside a class
// and outside; the first character after the backslash has been taken.
func (p *python) character(r rune) (rune, error) {
	switch r {
	case 'a':
		return '\a', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'v':
		return '\v', nil
	case 'x':
		return p.hex(2)
	case 'u':
		return p.hex(4)
	case 'U':
		return p.hex(8)
	}
	if isDigit(r) {
		p.at--
		digits := 0
		n := rune(0)
		for digits < 3 && p.at < len(p.src) && isOctal(p.src[p.at]) {
			n = n*8 + p.src[p.at] - '0'
			p.at, digits = p.at+1, digits+1
		}
		if digits == 0 || n > 0o377 {
			return 0, fmt.Errorf("bad escape \\%c", r)
		}
		return n, nil
	}
	if isLetter(r) {
		return 0, fmt.Errorf("bad escape \\%c", r)
	}
	return r, nil
}

func (p *python) hex(digits int) (rune, error) {
	if p.at+digits > len(p.src) {
		return 0, errors.New("incomplete escape")
	}
	n, err := strconv.ParseUint(string(p.src[p.at:p.at+digits]), 16, 32)
	if err != nil || n > unicode.MaxRune {
		return 0, errors.New("incomplete escape")
	}
	p.at += digits
	return rune(n), nil
}
