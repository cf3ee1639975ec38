package chat

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// dumpOptions are the arguments of Python's json.dumps that templates use.
type dumpOptions struct {
	ascii     bool
	sortKeys  bool
	indent    string // "" and !pretty: one line
	pretty    bool
	item, key string // separators
	raw       rune   // never escaped; 0 for none
}

var pythonDefault = dumpOptions{item: ", ", key: ": "}

// Dumps writes a value as Python's json.dumps(v, ensure_ascii=False) does.
func Dumps(v any) string {
	var b strings.Builder
	pythonDefault.write(&b, v, "\n")
	return b.String()
}

func (d dumpOptions) write(b *strings.Builder, v any, newline string) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int:
		b.WriteString(strconv.Itoa(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(pythonFloat(v))
	case json.Number:
		b.WriteString(string(v))
	case string:
		d.text(b, v)
	case []any:
		d.group(b, '[', ']', len(v), newline, func(i int, inner string) { d.write(b, v[i], inner) })
	case *Object:
		keys := v.Keys
		if d.sortKeys {
			keys = slices.Sorted(slices.Values(keys))
		}
		d.group(b, '{', '}', len(keys), newline, func(i int, inner string) {
			d.text(b, keys[i])
			b.WriteString(d.key)
			d.write(b, v.Values[keys[i]], inner)
		})
	default:
		d.text(b, fmt.Sprint(v))
	}
}

func (d dumpOptions) group(b *strings.Builder, open, end byte, n int, newline string, item func(int, string)) {
	inner := newline + d.indent
	b.WriteByte(open)
	for i := range n {
		if i > 0 {
			b.WriteString(d.item)
		}
		if d.pretty {
			b.WriteString(inner)
		}
		item(i, inner)
	}
	if d.pretty && n > 0 {
		b.WriteString(newline)
	}
	b.WriteByte(end)
}

var shortEscapes = map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`}

func (d dumpOptions) text(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		short, ok := shortEscapes[r]
		switch {
		case ok:
			b.WriteString(short)
		case r < 0x20 || d.ascii && r >= 0x7f && r < 0x10000 && (d.raw == 0 || r != d.raw) && r != 0x7f:
			fmt.Fprintf(b, `\u%04x`, r)
		case d.ascii && r >= 0x10000 && (d.raw == 0 || r != d.raw):
			r -= 0x10000
			fmt.Fprintf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// pythonFloat is repr(float): shortest digits, exponent outside 1e-4 … 1e16.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
