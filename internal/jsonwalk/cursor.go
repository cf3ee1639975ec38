package jsonwalk

import (
	"bytes"
	"encoding/json"
)

// Span is a part of a text, in bytes from its start.
type Span struct{ Start, End int64 }

// Of returns the part.
func (s Span) Of(raw []byte) []byte { return raw[s.Start:s.End] }

// Cursor is a place in a JSON text.
type Cursor struct {
	raw []byte
	at  int
}

// New returns a cursor at the start of raw, which must be valid JSON.
func New(raw []byte) Cursor { return Cursor{raw: raw} }

// Raw returns the text.
func (c *Cursor) Raw() []byte { return c.raw }

func (c *Cursor) space() byte {
	for ; ; c.at++ {
		switch b := c.raw[c.at]; b {
		case ' ', '\t', '\n', '\r':
		default:
			return b
		}
	}
}

// Open enters an object. Where something else stands it returns false and the
// place after its first token.
func (c *Cursor) Open() (end int64, ok bool) {
	switch c.space() {
	case '{':
		c.at++
		return int64(c.at), true
	case '[':
		return int64(c.at + 1), false
	}
	return c.Value().End, false
}

// More tells whether the object has another member, and leaves it if not.
func (c *Cursor) More() bool {
	b := c.space()
	if b == ',' {
		c.at++
		b = c.space()
	}
	if b == '}' {
		c.at++
		return false
	}
	return true
}

// Key reads a key and the colon. The span includes the quotes.
func (c *Cursor) Key() (string, Span) {
	s := c.KeySpan()
	name, _ := Unquote(s.Of(c.raw))
	return name, s
}

// KeySpan is Key for callers that do not want every key as a string.
func (c *Cursor) KeySpan() Span {
	s := c.Value()
	c.space()
	c.at++
	return s
}

// Value skips a value of any type and returns where it stands.
func (c *Cursor) Value() Span {
	b := c.space()
	start := c.at
	switch b {
	case '"':
		c.str()
	case '{', '[':
		for depth := 1; depth > 0; {
			c.at++
			switch c.raw[c.at] {
			case '"':
				c.str()
				c.at--
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
		}
		c.at++
	default:
		for c.at < len(c.raw) && !isEnd(c.raw[c.at]) {
			c.at++
		}
	}
	return Span{int64(start), int64(c.at)}
}

func isEnd(b byte) bool {
	switch b {
	case ',', '}', ']', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

// str skips a string.
func (c *Cursor) str() {
	for c.at++; ; {
		c.at += bytes.IndexByte(c.raw[c.at:], '"') + 1
		escapes := 0
		for c.raw[c.at-2-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return
		}
	}
}

// Unquote decodes a JSON string; false if the value is not a string.
func Unquote(value []byte) (string, bool) {
	if value[0] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), true
	}
	var text string
	if value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return "", false
	}
	return text, true
}
