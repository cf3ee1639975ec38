package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// glmPattern is the one splitting expression that nextPiece implements, as it
// stands in the tokenizer.json of every GLM model (docs/facts/families.md 7.1).
const glmPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// class sorts characters as the pattern does.
type class uint8

const (
	other   class = iota // neither of the following: punctuation, marks, symbols
	letter               // \p{L}
	digit                // \p{N}
	newline              // \r, \n
	space                // the rest of \s (White_Space)
)

func classOf(r rune) class {
	switch {
	case r == '\n' || r == '\r':
		return newline
	case unicode.IsSpace(r):
		return space
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return digit
	}
	return other
}

// at returns the class and size of the character at s[i:]; size 0 at the end.
// A byte that is not UTF-8 counts as a character of class other.
func at(s string, i int) (class, int) {
	if i >= len(s) {
		return other, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		return ascii[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return classOf(r), n
}

var ascii = func() (t [utf8.RuneSelf]class) {
	for i := range t {
		t[i] = classOf(rune(i))
	}
	return t
}()

// nextPiece returns the end of the piece that starts at s[i:], i < len(s). The
// alternatives of the pattern are tried in their order.
func nextPiece(s string, i int) int {
	if n := contraction(s[i:]); n > 0 {
		return i + n
	}
	first, n := at(s, i)
	second, m := at(s, i+n)
	switch {
	// [^\r\n\p{L}\p{N}]?\p{L}+
	case first == letter:
		return skip(s, i+n, letter)
	case (first == other || first == space) && m > 0 && second == letter:
		return skip(s, i+n+m, letter)
	// \p{N}{1,3}
	case first == digit:
		end := i + n
		for range 2 {
			c, n := at(s, end)
			if n == 0 || c != digit {
				break
			}
			end += n
		}
		return end
	//  ?[^\s\p{L}\p{N}]+[\r\n]*
	case first == other:
		return skip(s, skip(s, i+n, other), newline)
	case s[i] == ' ' && m > 0 && second == other:
		return skip(s, skip(s, i+n+m, other), newline)
	}
	return whitespace(s, i)
}

// whitespace matches the last three alternatives on a run of white space:
// up to its last line break; else all of it at the end of the text; else all
// but the last character, which may belong to the next piece.
func whitespace(s string, i int) int {
	end, last, lineBreak := i, i, -1
	for {
		c, n := at(s, end)
		if n == 0 || c != space && c != newline {
			break
		}
		last = end
		end += n
		if c == newline {
			lineBreak = end
		}
	}
	switch {
	case lineBreak >= 0:
		return lineBreak
	case end == len(s) || last == i:
		return end
	}
	return last
}

// skip returns the end of the run of characters of class c that starts at i.
func skip(s string, i int, c class) int {
	for {
		k, n := at(s, i)
		if n == 0 || k != c {
			return i
		}
		i += n
	}
}

// contraction returns the length of 's, 't, 're, 've, 'm, 'll or 'd at the
// start of s, in any case, or 0. The long s (U+017F) is a case of s.
func contraction(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	if len(s) >= 3 && s[1:3] == "ſ" {
		return 3
	}
	a, b := s[1]|0x20, byte(0)
	if len(s) > 2 {
		b = s[2] | 0x20
	}
	switch {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return 2
	case a == 'r' && b == 'e' || a == 'v' && b == 'e' || a == 'l' && b == 'l':
		return 3
	}
	return 0
}
