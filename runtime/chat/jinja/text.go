package jinja

import (
	"strings"
	"unicode/utf8"
)

// Text is a string that knows which of its bytes came from variables.
type Text struct {
	s string
	m string // one byte for each of s, 1 for foreign; "" if none is
}

// Written is text of the template's own.
func Written(s string) Text { return Text{s: s} }

// Foreign is text that a variable brings along.
func Foreign(s string) Text { return Text{s, strings.Repeat("\x01", len(s))} }

// String returns the text without its provenance.
func (t Text) String() string { return t.s }

// Foreign tells whether byte i came from a variable.
func (t Text) Foreign(i int) bool { return t.m != "" && t.m[i] != 0 }

// Cut returns the bytes from i up to, not including, j.
func (t Text) Cut(i, j int) Text {
	if t.m == "" {
		return Text{s: t.s[i:j]}
	}
	return Text{t.s[i:j], t.m[i:j]}
}

// builder collects text.
type builder struct{ s, m strings.Builder }

func (b *builder) add(t Text) {
	if t.m != "" || b.m.Len() > 0 {
		b.pad(b.s.Len())
		b.m.WriteString(t.m)
	}
	b.s.WriteString(t.s)
	if b.m.Len() > 0 {
		b.pad(b.s.Len())
	}
}

// pad brings the provenance to n bytes.
func (b *builder) pad(n int) {
	const zeros = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for n -= b.m.Len(); n > 0; n -= len(zeros) {
		b.m.WriteString(zeros[:min(n, len(zeros))])
	}
}

func (b *builder) text() Text { return Text{b.s.String(), b.m.String()} }

// runes counts code points.
func (t Text) runes() int { return utf8.RuneCountInString(t.s) }

// offset is the byte at which code point n begins.
func (t Text) offset(n int) int {
	if len(t.s) == t.runes() {
		return n
	}
	i := 0
	for ; n > 0 && i < len(t.s); n-- {
		_, size := utf8.DecodeRuneInString(t.s[i:])
		i += size
	}
	return i
}

// chars splits into code points.
func (t Text) chars() []any {
	out := make([]any, 0, len(t.s))
	for i := 0; i < len(t.s); {
		_, size := utf8.DecodeRuneInString(t.s[i:])
		out = append(out, t.Cut(i, i+size))
		i += size
	}
	return out
}

// isSpace is Python's str.isspace for one character.
func isSpace(r rune) bool {
	switch {
	case r >= '\t' && r <= '\r', r >= 0x1c && r <= ' ', r == 0x85, r == 0xa0, r == 0x1680, r >= 0x2000 && r <= 0x200a,
		r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x3000:
		return true
	}
	return false
}

// strip is str.strip, or lstrip and rstrip; chars nil means white space.
func (t Text) strip(chars *Text, left, right bool) Text {
	drop := isSpace
	if chars != nil {
		drop = func(r rune) bool { return strings.ContainsRune(chars.s, r) }
	}
	i, j := 0, len(t.s)
	if left {
		i = len(t.s) - len(strings.TrimLeftFunc(t.s, drop))
	}
	if right {
		j = i + len(strings.TrimRightFunc(t.s[i:], drop))
	}
	return t.Cut(i, j)
}

// split is str.split with a separator, at most n cuts (n < 0: all).
func (t Text) split(sep string, n int) []any {
	out := []any{}
	for n != 0 {
		i := strings.Index(t.s, sep)
		if i < 0 {
			break
		}
		out = append(out, t.Cut(0, i))
		t = t.Cut(i+len(sep), len(t.s))
		n--
	}
	return append(out, t)
}

// rsplit cuts from the right.
func (t Text) rsplit(sep string, n int) []any {
	var out []any
	for n != 0 {
		i := strings.LastIndex(t.s, sep)
		if i < 0 {
			break
		}
		out = append([]any{t.Cut(i+len(sep), len(t.s))}, out...)
		t = t.Cut(0, i)
		n--
	}
	return append([]any{t}, out...)
}

// fields is str.split without a separator.
func (t Text) fields(n int) []any {
	out := []any{}
	for t = t.strip(nil, true, false); t.s != ""; t = t.strip(nil, true, false) {
		i := strings.IndexFunc(t.s, isSpace)
		if i < 0 || n == 0 {
			return append(out, t)
		}
		out, t, n = append(out, t.Cut(0, i)), t.Cut(i, len(t.s)), n-1
	}
	return out
}

// replace is str.replace, n < 0: everywhere.
func (t Text) replace(old string, by Text, n int) Text {
	if old == "" {
		return t.interleave(by, n)
	}
	var b builder
	for i, part := range t.split(old, n) {
		if i > 0 {
			b.add(by)
		}
		b.add(part.(Text))
	}
	return b.text()
}

func (t Text) interleave(by Text, n int) Text {
	var b builder
	for _, c := range t.chars() {
		if n != 0 {
			b.add(by)
			n--
		}
		b.add(c.(Text))
	}
	if n != 0 {
		b.add(by)
	}
	return b.text()
}

// mapRunes replaces every character, i counting from 0.
func (t Text) mapRunes(f func(i int, r rune) string) Text {
	var b builder
	i := 0
	for at, r := range t.s {
		to := Text{s: f(i, r)}
		if t.Foreign(at) {
			to = Foreign(to.s)
		}
		b.add(to)
		i++
	}
	return b.text()
}

// Own returns the text with every occurrence of the words taken for the
// template's own.
func (t Text) Own(words ...string) Text {
	if t.m == "" {
		return t
	}
	m := []byte(t.m)
	for _, w := range words {
		for at := 0; ; {
			i := strings.Index(t.s[at:], w)
			if i < 0 {
				break
			}
			clear(m[at+i : at+i+len(w)])
			at += i + len(w)
		}
	}
	return Text{t.s, string(m)}
}

// OwnSuffix does the same for a word at the end.
func (t Text) OwnSuffix(word string) Text {
	if t.m == "" || !strings.HasSuffix(t.s, word) {
		return t
	}
	n := len(t.s) - len(word)
	return Text{t.s, t.m[:n] + strings.Repeat("\x00", len(word))}
}
