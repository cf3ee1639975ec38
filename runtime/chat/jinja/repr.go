package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

// str is Python's str(v). The text of containers is foreign: what they hold
// came from variables, and a template writes no markers through them.
func str(v any) Text {
	switch v := v.(type) {
	case Text:
		return v
	case undefined:
		return Text{}
	}
	return repr(v)
}

func repr(v any) Text {
	switch v.(type) {
	case nil, bool, int64, float64, *big.Int:
		var b strings.Builder
		writeRepr(&b, v)
		return Written(b.String())
	}
	var b strings.Builder
	writeRepr(&b, v)
	return Foreign(b.String())
}

func writeRepr(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case *big.Int:
		b.WriteString(v.String())
	case float64:
		b.WriteString(floatRepr(v))
	case Text:
		quote(b, v.s)
	case undefined:
		b.WriteString("Undefined")
	case *List:
		open, end := "[", "]"
		if v.tuple {
			open, end = "(", ")"
		}
		if v.view != "" {
			open, end = v.view+"([", "])"
		}
		b.WriteString(open)
		for i, e := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, e)
		}
		if v.tuple && len(v.items) == 1 {
			b.WriteByte(',')
		}
		b.WriteString(end)
	case *Dict:
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, k)
			b.WriteString(": ")
			writeRepr(b, v.values[i])
		}
		b.WriteByte('}')
	case *function:
		fmt.Fprintf(b, "<Macro '%s'>", v.name)
	default:
		fmt.Fprintf(b, "<%s>", typeName(v))
	}
}

// floatRepr is repr(float): shortest digits, exponent outside 1e-4 … 1e16.
func floatRepr(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
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

// quote is repr(str).
func quote(b *strings.Builder, s string) {
	q := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	b.WriteRune(q)
	for _, r := range s {
		switch {
		case r == q || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(b, `\x%02x`, r)
		case r < 0x7f || unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
	}
	b.WriteRune(q)
}
