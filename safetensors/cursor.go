package safetensors

// cursor walks over the members of JSON objects. The text is one that
// json.Valid accepts; that is what makes it so short, and several times as fast
// as a decoder's tokens.
type cursor struct {
	raw []byte
	at  int
}

func (c *cursor) space() byte {
	for ; ; c.at++ {
		switch b := c.raw[c.at]; b {
		case ' ', '\t', '\n', '\r':
		default:
			return b
		}
	}
}

// open enters an object. Where something else stands it returns false and the
// place after its first token.
func (c *cursor) open() (end int64, ok bool) {
	switch c.space() {
	case '{':
		c.at++
		return int64(c.at), true
	case '[':
		return int64(c.at + 1), false
	}
	return c.value().end, false
}

// more tells whether the object has another member, and leaves it if not.
func (c *cursor) more() bool {
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

// key reads a key and the colon. The span includes the quotes.
func (c *cursor) key() (string, span) {
	c.space()
	s := c.value()
	c.space()
	c.at++
	name, _ := unquote(s.of(c.raw))
	return name, s
}

// value skips a value of any type and returns where it stands.
func (c *cursor) value() span {
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
	return span{int64(start), int64(c.at)}
}

func isEnd(b byte) bool {
	switch b {
	case ',', '}', ']', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

func (c *cursor) str() {
	for c.at++; c.raw[c.at] != '"'; c.at++ {
		if c.raw[c.at] == '\\' {
			c.at++
		}
	}
	c.at++
}
