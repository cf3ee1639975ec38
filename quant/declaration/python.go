package declaration

import (
	"errors"
	"fmt"
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
