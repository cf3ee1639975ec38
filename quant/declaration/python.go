package declaration

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Limits of a pattern. Published ones have under 300 characters and no
// nesting worth the name.
const (
	maxPattern = 16 << 10 // bytes
	maxNesting = 100      // groups within groups
	maxRepeat  = 1 << 30
	fastRepeat = 100 // Go's regexp unrolls repetitions
)

// python parses a regular expression of Python's re module (3.11 and newer)
// and writes it for the two engines that run it: regexp2, whose syntax is
// .NET's, and Go's regexp, which is linear but lacks much. What Python
// refuses is refused.
type python struct {
	src     []rune
	at      int
	verbose bool
	depth   int
	groups  []width        // by number; 0 is the whole match
	open    map[int]bool   // groups that have not ended
	names   map[string]int // of groups
	plain   bool           // Go's regexp means the same for names of printable ASCII
}

// width is how many characters a piece can match.
type width struct{ lo, hi int }

func (w width) plus(v width) width {
	return width{min(w.lo+v.lo, maxRepeat), min(w.hi+v.hi, maxRepeat)}
}

func (w width) times(lo, hi int) width {
	return width{clamp(w.lo, lo), clamp(w.hi, hi)}
}

func clamp(a, b int) int {
	if a == 0 || b == 0 {
		return 0
	}
	if a > maxRepeat/b {
		return maxRepeat
	}
	return a * b
}

// piece is a part of the expression in both syntaxes.
type piece struct {
	net, re2 string
	width
	kind pieceKind
}

type pieceKind uint8

const (
	atom     pieceKind = iota
	anchor             // ^ $ \b: cannot be repeated
	repeated           // cannot be repeated again
	nothing            // a comment or flags
)

// translate returns expr in the syntax of regexp2 and in that of Go's regexp;
// fast tells whether the latter means the same for names of printable ASCII.
func translate(expr string) (net, re2 string, fast bool, err error) {
	if len(expr) > maxPattern {
		return "", "", false, fmt.Errorf("it has %d bytes, more than %d", len(expr), maxPattern)
	}
	p := &python{src: []rune(expr), groups: []width{{}}, open: map[int]bool{}, names: map[string]int{}, plain: true}
	flags, err := p.globalFlags()
	if err != nil {
		return "", "", false, err
	}
	all, err := p.alternatives()
	if err != nil {
		return "", "", false, err
	}
	if p.at < len(p.src) {
		return "", "", false, errors.New("unbalanced parenthesis")
	}
	net = all.net
	if flags != "" {
		net = "(?" + flags + ":" + net + ")"
	}
	return net, all.re2, p.plain, nil
}

func (p *python) peek() (rune, bool) {
	if p.at >= len(p.src) {
		return 0, false
	}
	return p.src[p.at], true
}

// accept takes text if it comes next.
func (p *python) accept(text string) bool {
	end := p.at
	for _, r := range text {
		if end >= len(p.src) || p.src[end] != r {
			return false
		}
		end++
	}
	p.at = end
	return true
}

// globalFlags reads (?ims) at the start, the only place for flags of the
// whole expression.
func (p *python) globalFlags() (string, error) {
	var out string
	for {
		start := p.at
		if !p.accept("(?") {
			return out, nil
		}
		on := p.flagLetters()
		if on == "" || !p.accept(")") {
			p.at = start
			return out, nil
		}
		net, err := p.flags(on)
		if err != nil {
			return "", err
		}
		out += net
		p.verbose = p.verbose || strings.Contains(on, "x")
	}
}

func (p *python) flagLetters() string {
	start := p.at
	for p.at < len(p.src) && strings.ContainsRune("aiLmsux", p.src[p.at]) {
		p.at++
	}
	return string(p.src[start:p.at])
}

// flags translates letters of flags. x is handled here, u is the default.
func (p *python) flags(letters string) (string, error) {
	if strings.ContainsAny(letters, "La") {
		return "", errors.New("the flags a and L are not supported")
	}
	out := ""
	for _, f := range "ims" {
		if strings.ContainsRune(letters, f) {
			out += string(f)
			p.plain = false
		}
	}
	return out, nil
}

// alternatives reads up to a closing parenthesis or the end.
func (p *python) alternatives() (piece, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxNesting {
		return piece{}, errors.New("groups are nested too deeply")
	}
	first, err := p.sequence()
	if err != nil {
		return first, err
	}
	var net, re2 strings.Builder
	net.WriteString(first.net)
	re2.WriteString(first.re2)
	for p.accept("|") {
		next, err := p.sequence()
		if err != nil {
			return first, err
		}
		net.WriteString("|" + next.net)
		re2.WriteString("|" + next.re2)
		first.lo, first.hi = min(first.lo, next.lo), max(first.hi, next.hi)
	}
	first.net, first.re2 = net.String(), re2.String()
	return first, nil
}

// sequence reads pieces with their repetitions.
func (p *python) sequence() (piece, error) {
	var net, re2 strings.Builder
	var w width
	for {
		p.skipVerbose()
		r, ok := p.peek()
		if !ok || r == '|' || r == ')' {
			return piece{net: net.String(), re2: re2.String(), width: w}, nil
		}
		item, err := p.item(r)
		if err != nil {
			return item, err
		}
		p.skipVerbose()
		if item, err = p.repetition(item); err != nil {
			return item, err
		}
		net.WriteString(item.net)
		re2.WriteString(item.re2)
		w = w.plus(item.width)
	}
}

// skipVerbose skips white space and comments under the flag x.
func (p *python) skipVerbose() {
	for p.verbose && p.at < len(p.src) {
		switch r := p.src[p.at]; {
		case strings.ContainsRune(" \t\n\r\v\f", r):
			p.at++
		case r == '#':
			for p.at < len(p.src) && p.src[p.at] != '\n' {
				p.at++
			}
		default:
			return
		}
	}
}

// item reads one piece without its repetition.
func (p *python) item(r rune) (piece, error) {
	one := width{1, 1}
	switch r {
	case '*', '+', '?':
		return piece{}, errors.New("nothing to repeat")
	case '{':
		if _, _, ok := p.bounds(); ok {
			return piece{}, errors.New("nothing to repeat")
		}
		p.at++
		return piece{net: `\{`, re2: `\{`, width: one}, nil
	case '.':
		p.at++
		return piece{net: ".", re2: ".", width: one}, nil
	case '^', '$':
		p.at++
		return piece{net: string(r), re2: string(r), kind: anchor}, nil
	case '[':
		p.at++
		return p.class()
	case '(':
		p.at++
		return p.group()
	case '\\':
		p.at++
		return p.escape()
	}
	p.at++
	text := quote(r)
	return piece{net: text, re2: text, width: one}, nil
}

// quote returns a character that stands for itself in both syntaxes.
func quote(r rune) string {
	switch {
	case r < 0x20, r == 0x7f, r >= 0x80 && r <= 0xffff && !unicode.IsPrint(r):
		return fmt.Sprintf(`\u%04x`, r) // never in a name that the fast path sees
	case r < 0x80 && r != '_' && r != ' ' && !isLetter(r) && !isDigit(r):
		return `\` + string(r)
	}
	return string(r)
}

func isDigit(r rune) bool  { return r >= '0' && r <= '9' }
func isOctal(r rune) bool  { return r >= '0' && r <= '7' }
func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

// bounds reads {m,n} without moving on; ok is false where Python takes the
// brace for itself.
func (p *python) bounds() (lo, hi int, ok bool) {
	start := p.at
	defer func() {
		if !ok {
			p.at = start
		}
	}()
	if !p.accept("{") || p.accept("}") {
		return 0, 0, false
	}
	lo, given := p.number()
	hi = lo
	if p.accept(",") {
		var limited bool
		if hi, limited = p.number(); !limited {
			hi = maxRepeat
		}
	} else if !given {
		return 0, 0, false
	}
	return lo, hi, p.accept("}")
}

func (p *python) number() (n int, given bool) {
	for p.at < len(p.src) && isDigit(p.src[p.at]) {
		n = min(n*10+int(p.src[p.at]-'0'), maxRepeat)
		p.at++
		given = true
	}
	return n, given
}

// repetition reads the quantifier of a piece, if there is one.
func (p *python) repetition(item piece) (piece, error) {
	r, ok := p.peek()
	if !ok {
		return item, nil
	}
	lo, hi, sign := 0, maxRepeat, ""
	switch r {
	case '*':
		p.at, sign = p.at+1, "*"
	case '+':
		p.at, lo, sign = p.at+1, 1, "+"
	case '?':
		p.at, hi, sign = p.at+1, 1, "?"
	case '{':
		if lo, hi, ok = p.bounds(); !ok {
			return item, nil
		}
		switch {
		case lo > hi:
			return item, errors.New("min repeat greater than max repeat")
		case hi == maxRepeat:
			sign = fmt.Sprintf("{%d,}", lo)
		default:
			sign = fmt.Sprintf("{%d,%d}", lo, hi)
		}
	default:
		return item, nil
	}
	switch item.kind {
	case anchor, nothing:
		return item, errors.New("nothing to repeat")
	case repeated:
		return item, errors.New("multiple repeat")
	}
	p.plain = p.plain && lo <= fastRepeat && (hi <= fastRepeat || hi == maxRepeat)
	out := piece{net: item.net + sign, re2: item.re2 + sign, width: item.times(lo, hi), kind: repeated}
	switch {
	case p.accept("?"):
		out.net, out.re2 = out.net+"?", out.re2+"?"
	case p.accept("+"):
		out.net, p.plain = "(?>"+out.net+")", false
	}
	if next, ok := p.peek(); ok && strings.ContainsRune("*+?", next) {
		return out, errors.New("multiple repeat")
	}
	if _, _, ok := p.bounds(); ok {
		return out, errors.New("multiple repeat")
	}
	return out, nil
}

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
