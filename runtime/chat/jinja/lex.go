package jinja

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/glmconv/glmconv/internal/lazy"
)

type kind int

const (
	tokEOF kind = iota
	tokData
	tokName
	tokString
	tokNumber
	tokOp     // val is the operator
	tokBlock  // {%
	tokOutput // {{
	tokEnd    // %} or }}
)

type token struct {
	kind kind
	val  string
	lit  any // of tokString and tokNumber
	line int
}

func (t token) String() string {
	switch t.kind {
	case tokEOF:
		return "the end of the template"
	case tokEnd:
		return "the end of the tag"
	}
	return strconv.Quote(t.val)
}

var (
	nameRE   = lazy.Regexp(`^[\pL_][\pL\pN_]*`)
	floatRE  = lazy.Regexp(`^(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?[eE][+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)`)
	intRE    = lazy.Regexp(`^(?:0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[0-9a-fA-F])+|[1-9](?:_?\d)*|0(?:_?0)*)`)
	stringRE = lazy.Regexp(`^(?s:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")`)
	opRE     = lazy.Regexp(`^(?:\*\*|//|==|!=|<=|>=|[-+*/%~\[\](){}<>=.:|,;])`)
	rawRE    = lazy.Regexp(`^\{%([-+]?)\s*raw\s*(-%\}|%\})`)
	endRawRE = lazy.Regexp(`\{%([-+]?)\s*endraw\s*([-+]?)%\}`)
)

// lexer cuts a template into tokens, white space removed as trim_blocks and
// lstrip_blocks want it.
type lexer struct {
	src          string
	pos, line    int
	lineStarting bool
	out          []token
}

func lex(source string) ([]token, error) {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	l := &lexer{src: strings.TrimSuffix(source, "\n"), line: 1, lineStarting: true}
	for l.pos < len(l.src) {
		if err := l.root(); err != nil {
			return nil, &Error{Line: l.line, Err: err}
		}
	}
	l.emit(token{kind: tokEOF})
	return l.out, nil
}

func (l *lexer) emit(t token) {
	t.line = l.line
	l.out = append(l.out, t)
}

// advance moves on by n bytes.
func (l *lexer) advance(n int) {
	if n > 0 {
		l.line += strings.Count(l.src[l.pos:l.pos+n], "\n")
		l.lineStarting = l.src[l.pos+n-1] == '\n'
		l.pos += n
	}
}

// root reads text up to a tag, and the tag.
func (l *lexer) root() error {
	rest := l.src[l.pos:]
	at, open := -1, ""
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] == '{' && (rest[i+1] == '%' || rest[i+1] == '{' || rest[i+1] == '#') {
			at, open = i, rest[i:i+2]
			break
		}
	}
	if at < 0 {
		l.emit(token{kind: tokData, val: rest})
		l.advance(len(rest))
		return nil
	}
	sign := byte(0)
	if after := rest[at+2:]; after != "" && (after[0] == '-' || after[0] == '+') {
		sign = after[0]
	}
	l.data(rest[:at], sign, open != "{{")
	l.advance(at)
	if m := rawRE().FindStringSubmatch(l.src[l.pos:]); m != nil {
		return l.raw(m)
	}
	l.advance(2)
	if sign != 0 {
		l.advance(1)
	}
	if open == "{#" {
		return l.comment()
	}
	if open == "{%" {
		l.emit(token{kind: tokBlock, val: open})
		return l.tag("%}", true)
	}
	l.emit(token{kind: tokOutput, val: open})
	return l.tag("}}", false)
}

// data emits the text before a tag whose sign is '-', '+' or 0.
func (l *lexer) data(text string, sign byte, block bool) {
	if sign == '-' {
		text = strings.TrimRightFunc(text, isSpace)
	} else if sign == 0 && block {
		from := strings.LastIndexByte(text, '\n') + 1
		if (from > 0 || l.lineStarting) && from < len(text) && strings.TrimFunc(text[from:], isSpace) == "" {
			text = text[:from]
		}
	}
	if text != "" {
		l.emit(token{kind: tokData, val: text})
	}
}

// closed moves past the end of a tag, which has length n, and what it trims.
func (l *lexer) closed(n int, minus, trim bool) {
	rest := l.src[l.pos+n:]
	if minus {
		n += len(rest) - len(strings.TrimLeftFunc(rest, isSpace))
	} else if trim && strings.HasPrefix(rest, "\n") {
		n++
	}
	l.advance(n)
}

func (l *lexer) comment() error {
	end := strings.Index(l.src[l.pos:], "#}")
	if end < 0 {
		return fmt.Errorf("a comment has no end")
	}
	sign := byte(0)
	if end > 0 {
		sign = l.src[l.pos+end-1]
	}
	l.advance(end)
	l.closed(2, sign == '-', sign != '+')
	return nil
}

func (l *lexer) raw(m []string) error {
	l.closed(len(m[0]), m[2][0] == '-', false)
	end := endRawRE().FindStringSubmatchIndex(l.src[l.pos:])
	if end == nil {
		return fmt.Errorf("a raw block has no endraw")
	}
	sign := byte(0)
	if end[2] < end[3] {
		sign = l.src[l.pos+end[2]]
	}
	l.data(l.src[l.pos:l.pos+end[0]], sign, true)
	minus, plus := l.src[l.pos+end[4]:l.pos+end[5]] == "-", l.src[l.pos+end[4]:l.pos+end[5]] == "+"
	l.advance(end[0])
	l.closed(end[1]-end[0], minus, !plus)
	return nil
}

// tag reads the tokens of a tag up to its end.
func (l *lexer) tag(end string, trim bool) error {
	var open []byte
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		if len(open) == 0 {
			minus, plus := strings.HasPrefix(rest, "-"+end), trim && strings.HasPrefix(rest, "+"+end)
			if minus || plus {
				l.emit(token{kind: tokEnd, val: end})
				l.closed(1+len(end), minus, false)
				return nil
			}
			if strings.HasPrefix(rest, end) {
				l.emit(token{kind: tokEnd, val: end})
				l.closed(len(end), false, trim)
				return nil
			}
		}
		n, err := l.inside(rest, &open)
		if err != nil {
			return err
		}
		l.advance(n)
	}
	return fmt.Errorf("a tag has no end")
}

// inside reads one token within a tag and returns its length.
func (l *lexer) inside(rest string, open *[]byte) (int, error) {
	if r, size := utf8.DecodeRuneInString(rest); isSpace(r) {
		return size, nil
	}
	afterDot := l.pos > 0 && l.src[l.pos-1] == '.'
	if m := floatRE().FindString(rest); m != "" && !afterDot {
		f, err := strconv.ParseFloat(strings.ReplaceAll(m, "_", ""), 64)
		if err != nil {
			return 0, fmt.Errorf("number %s: %w", m, err)
		}
		l.emit(token{kind: tokNumber, val: m, lit: f})
		return len(m), nil
	}
	if m := intRE().FindString(rest); m != "" {
		v, ok := new(big.Int).SetString(strings.ReplaceAll(m, "_", ""), 0)
		if !ok {
			return 0, fmt.Errorf("number %s", m)
		}
		l.emit(token{kind: tokNumber, val: m, lit: shrink(v)})
		return len(m), nil
	}
	if m := nameRE().FindString(rest); m != "" {
		l.emit(token{kind: tokName, val: m})
		return len(m), nil
	}
	if m := stringRE().FindString(rest); m != "" {
		s, err := unescape(m[1 : len(m)-1])
		if err != nil {
			return 0, err
		}
		l.emit(token{kind: tokString, val: m, lit: s})
		return len(m), nil
	}
	op := opRE().FindString(rest)
	if op == "" {
		r, _ := utf8.DecodeRuneInString(rest)
		return 0, fmt.Errorf("unexpected character %q", r)
	}
	switch op {
	case "(", "[", "{":
		*open = append(*open, map[string]byte{"(": ')', "[": ']', "{": '}'}[op])
	case ")", "]", "}":
		if n := len(*open); n == 0 || (*open)[n-1] != op[0] {
			return 0, fmt.Errorf("unexpected %q", op)
		}
		*open = (*open)[:len(*open)-1]
	}
	l.emit(token{kind: tokOp, val: op})
	return len(op), nil
}

// unescape reads the escapes of a Python string literal.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		digits := 0
		switch c := s[i]; c {
		case '\n':
		case '\\', '\'', '"':
			b.WriteByte(c)
		case 'a', 'b', 'f', 'n', 'r', 't', 'v':
			b.WriteByte("\a\b\f\n\r\t\v"[strings.IndexByte("abfnrtv", c)])
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		case '0', '1', '2', '3', '4', '5', '6', '7':
			n := 1
			for n < 3 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7' {
				n++
			}
			v, _ := strconv.ParseUint(s[i:i+n], 8, 32)
			b.WriteRune(rune(v))
			i += n - 1
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
		if digits > 0 {
			if i+digits >= len(s) {
				return "", fmt.Errorf("truncated escape \\%c", s[i])
			}
			v, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
			if err != nil || v > utf8.MaxRune {
				return "", fmt.Errorf("bad escape \\%c%s", s[i], s[i+1:i+1+digits])
			}
			b.WriteRune(rune(v))
			i += digits
		}
	}
	return b.String(), nil
}

// shrink returns an int64 where the number fits.
func shrink(v *big.Int) any {
	if v.IsInt64() {
		return v.Int64()
	}
	return v
}
