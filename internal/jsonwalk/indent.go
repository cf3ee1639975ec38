package jsonwalk

import (
	"bufio"
	"io"
)

// WriteIndented writes a JSON text as json.Indent with two spaces and no prefix
// would, several times as fast. raw must be compact, as json.Marshal makes it;
// an end of line after it is kept.
func WriteIndented(w io.Writer, raw []byte) error {
	out := bufio.NewWriterSize(w, 64<<10)
	c := New(raw)
	depth := 0
	line := func() {
		_ = out.WriteByte('\n') // a bufio.Writer keeps its first error for Flush
		for range depth {
			_, _ = out.WriteString("  ")
		}
	}
	for c.at < len(raw) {
		start := c.at
		switch b := raw[c.at]; b {
		case '"':
			c.str()
			_, _ = out.Write(raw[start:c.at])
			continue
		case '{', '[':
			_ = out.WriteByte(b)
			if end := raw[c.at+1]; end == '}' || end == ']' {
				c.at++
				_ = out.WriteByte(end)
				break
			}
			depth++
			line()
		case '}', ']':
			depth--
			line()
			_ = out.WriteByte(b)
		case ',':
			_ = out.WriteByte(b)
			line()
		case ':':
			_, _ = out.WriteString(": ")
		default:
			_ = out.WriteByte(b)
		}
		c.at++
	}
	return out.Flush()
}
