package declaration

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dlclark/regexp2"
)

// Match says how an entry of a list is compared with the name of a module.
type Match uint8

// The ways.
const (
	Exact     Match = iota // the whole name (a class name such as "Linear" is the caller's affair)
	Regexp                 // Python's re.match: from the start, not to the end
	Search                 // Python's re.search
	Path                   // the name, or a parent of it: borders are dots (fp8)
	Substring              // any part of the name (AWQ)
	Suffix                 // the name or its end, from a dot on (GPTQ's list of modules)
	Glob                   // Python's fnmatch.fnmatchcase: * ? [seq] [!seq]
)

// String names the way.
func (m Match) String() string {
	return [...]string{"exact", "regexp", "search", "path", "substring", "suffix", "glob"}[m]
}

// ErrTimeout says that an expression backtracked without end and was given
// up. It then matches nothing, in this call and in every later one.
var ErrTimeout = errors.New("the expression takes too long")

// How long an expression may take for one name, and all tries of it that were
// slow together.
const (
	matchTimeout = 500 * time.Millisecond
	matchBudget  = 2 * time.Second
	slow         = time.Millisecond
)

// Pattern is an entry of an ignore list, of targets or of rules: a text and
// the way in which it is compared. It may be used by several goroutines.
type Pattern struct {
	Text string // as it stands in the file, with "re:" if it has that
	How  Match

	re    *regexp.Regexp  // the fast path: names of printable ASCII
	net   *regexp2.Regexp // everything else
	spent atomic.Int64    // nanoseconds of slow tries
	gone  atomic.Bool     // given up
}

// Parse makes a pattern of an entry as compressed-tensors and most other
// tools write it: "re:" and an expression of Python's re.match, or a name that
// is compared as plain says. The error says what is wrong with the expression.
func Parse(text string, plain Match) (*Pattern, error) {
	if expr, ok := strings.CutPrefix(text, "re:"); ok {
		return compile(text, expr, Regexp)
	}
	return New(text, plain)
}

// New makes a pattern of a text without a prefix.
func New(text string, how Match) (*Pattern, error) {
	switch how {
	case Regexp, Search:
		return compile(text, text, how)
	case Glob:
		re, err := regexp.Compile(globExpr(text))
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}
		return &Pattern{Text: text, How: how, re: re}, nil
	}
	return &Pattern{Text: text, How: how}, nil
}

func compile(text, expr string, how Match) (*Pattern, error) {
	p := &Pattern{Text: text, How: how}
	net, re2, fast, err := translate(expr)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", shorten(text), err)
	}
	start := `\A`
	if how == Search {
		start = ""
	}
	if fast {
		p.re, _ = regexp.Compile(start + "(?:" + re2 + ")") // what Go refuses goes the other way
	}
	if p.net, err = regexp2.Compile(start+"(?:"+net+")", regexp2.None); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", shorten(text), err)
	}
	p.net.MatchTimeout = matchTimeout
	return p, nil
}

// shorten keeps an error to one line.
func shorten(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

// Match reports whether the entry means the module of that name. An
// expression that was given up matches nothing; Err says so.
func (p *Pattern) Match(name string) bool {
	switch p.How {
	case Exact:
		return p.Text == name
	case Path:
		rest, ok := strings.CutPrefix(name, p.Text)
		return ok && (rest == "" || rest[0] == '.')
	case Substring:
		return strings.Contains(name, p.Text)
	case Suffix:
		rest, ok := strings.CutSuffix(name, p.Text)
		return ok && (rest == "" || rest[len(rest)-1] == '.')
	case Glob:
		return p.re.MatchString(name)
	}
	if p.re != nil && printable(name) {
		return p.re.MatchString(name)
	}
	return p.backtrack(name)
}

// IsRegexp reports whether the entry is an expression rather than a name.
func (p *Pattern) IsRegexp() bool { return p.How == Regexp || p.How == Search }

// Err returns ErrTimeout for an expression that was given up.
func (p *Pattern) Err() error {
	if p.gone.Load() {
		return fmt.Errorf("pattern %q: %w", shorten(p.Text), ErrTimeout)
	}
	return nil
}

// backtrack runs the expression on the engine whose time has no bound of its
// own.
func (p *Pattern) backtrack(name string) bool {
	if p.gone.Load() {
		return false
	}
	start := time.Now()
	ok, err := p.net.MatchString(name)
	if took := time.Since(start); took > slow && p.spent.Add(int64(took)) > int64(matchBudget) || err != nil {
		p.gone.Store(true)
	}
	return ok && err == nil
}

func printable(name string) bool {
	for i := range len(name) {
		if name[i] < 0x20 || name[i] > 0x7e {
			return false
		}
	}
	return true
}

// globExpr writes a shell pattern as an expression of the whole name, as
// Python's fnmatch.translate does.
func globExpr(glob string) string {
	set := []rune(glob)
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(set); i++ {
		switch c := set[i]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteByte('.')
		case '[':
			end := i + 1
			if end < len(set) && set[end] == '!' {
				end++
			}
			if end < len(set) && set[end] == ']' {
				end++
			}
			if k := slices.Index(set[min(end, len(set)):], ']'); k >= 0 {
				b.WriteString(globSet(set[i+1 : end+k]))
				i = end + k
				continue
			}
			b.WriteString(`\[`)
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return b.String() + `\z`
}

// globSet writes the inside of [seq] or [!seq]. A range that runs backwards is
// empty.
func globSet(set []rune) string {
	sign := ""
	if set[0] == '!' {
		sign, set = "^", set[1:]
	}
	member := func(r rune) string { return fmt.Sprintf(`\x{%x}`, r) }
	var b strings.Builder
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			if set[i] <= set[i+2] {
				b.WriteString(member(set[i]) + "-" + member(set[i+2]))
			}
			i += 2
			continue
		}
		b.WriteString(member(set[i]))
	}
	switch {
	case b.Len() == 0 && sign == "":
		return `[^\x00-\x{10FFFF}]`
	case b.Len() == 0:
		return "."
	}
	return "[" + sign + b.String() + "]"
}

// List is a list of patterns in file order. Looking a name up takes one map
// access and a pass over the entries that are not whole names: published
// lists have up to 60,000 names.
type List struct {
	Entries []*Pattern
	exact   map[string]int // first position of a whole name
	other   []int          // positions of the rest
}

// Add appends an entry.
func (l *List) Add(p *Pattern) {
	if p.How == Exact {
		if l.exact == nil {
			l.exact = map[string]int{}
		}
		if _, ok := l.exact[p.Text]; !ok {
			l.exact[p.Text] = len(l.Entries)
		}
	} else {
		l.other = append(l.other, len(l.Entries))
	}
	l.Entries = append(l.Entries, p)
}

// Find returns the first entry that means name, and its position; nil and −1
// if there is none.
func (l *List) Find(name string) (*Pattern, int) {
	best := -1
	if i, ok := l.exact[name]; ok {
		best = i
	}
	for _, i := range l.other {
		if best >= 0 && i > best {
			break
		}
		if l.Entries[i].Match(name) {
			best = i
			break
		}
	}
	if best < 0 {
		return nil, -1
	}
	return l.Entries[best], best
}

// Matches reports whether an entry means name.
func (l *List) Matches(name string) bool {
	_, i := l.Find(name)
	return i >= 0
}
