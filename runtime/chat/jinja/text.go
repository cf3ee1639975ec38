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
		set := map[rune]bool{}
		for _, c := range chars.s {
			set[c] = true
		}
		drop = func(c rune) bool { return set[c] }
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
