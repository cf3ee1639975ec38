package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// str is Python's r.str(v). The text of containers is foreign: what they hold
// came from variables, and a template writes no markers through them.
func (r *run) str(v any) Text {
	switch v := v.(type) {
	case Text:
		return v
	case undefined:
		return Text{}
	}
	return r.repr(v)
}

func (r *run) repr(v any) Text {
	switch v := v.(type) {
	case nil, bool, int64, float64, *big.Int:
		return Written(scalar(v))
	}
	var b strings.Builder
	r.writeRepr(&b, v)
	if r.spend(b.Len()) != nil {
		return Text{}
	}
	return Foreign(b.String())
}

// scalar is repr of None, a truth value or a number.
func scalar(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int64:
		return strconv.FormatInt(v, 10)
	case *big.Int:
		return v.String()
	case float64:
		return floatRepr(v)
	}
	return "None"
}

// writeRepr stops where a bound is reached.
func (r *run) writeRepr(b *strings.Builder, v any) {
	if !r.within() {
		return
	}
	defer r.out()
	if b.Len() > maxText {
		_ = r.spend(b.Len())
		return
	}
	switch v := v.(type) {
	case nil, bool, int64, float64, *big.Int:
		b.WriteString(scalar(v))
	case Text:
		if r.decode(len(v.s)) == nil {
			quote(b, v.s)
		}
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
			if r.err != nil {
				return
			}
			if i > 0 {
				b.WriteString(", ")
			}
			r.writeRepr(b, e)
		}
		if v.tuple && len(v.items) == 1 {
			b.WriteByte(',')
		}
		b.WriteString(end)
	case *Dict:
		b.WriteByte('{')
		for i, k := range v.keys {
			if r.err != nil {
				return
			}
			if i > 0 {
				b.WriteString(", ")
			}
			r.writeRepr(b, k)
			b.WriteString(": ")
			r.writeRepr(b, v.values[i])
		}
		b.WriteByte('}')
	case *function:
		fmt.Fprintf(b, "<Macro '%s'>", v.name)
	default:
		fmt.Fprintf(b, "<%s>", typeName(v))
	}
}

// brief is a text for a message.
func brief(s string) string {
	const most = 1000
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// floatRepr is r.repr(float): shortest digits, exponent outside 1e-4 … 1e16.
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

// quote is r.repr(str).
func quote(b *strings.Builder, s string) {
	q := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	b.WriteRune(q)
	plain := 0 // where what is written as it is begins
	for i, r := range s {
		if r != q && r != '\\' && (r >= ' ' && r < 0x7f || r > 0xff && r != utf8.RuneError && unicode.IsPrint(r)) {
			continue
		}
		b.WriteString(s[plain:i])
		_, size := utf8.DecodeRuneInString(s[i:])
		plain = i + size
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
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
	}
	b.WriteString(s[plain:])
	b.WriteRune(q)
}
