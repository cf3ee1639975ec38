package declaration

import (
	"errors"
	"fmt"
	"strings"
)

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
