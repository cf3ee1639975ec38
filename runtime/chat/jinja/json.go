package jinja

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// dump is Python's json.dumps with the arguments that templates use.
type dump struct {
	run       *run
	ascii     bool
	sortKeys  bool
	indent    string
	pretty    bool
	item, key string // separators
	depth     int
}

// JSON writes a value as json.dumps(v, ensure_ascii=False) does.
func JSON(v any) (string, error) {
	var b strings.Builder
	err := (&dump{run: newRun(context.Background(), time.Time{}), item: ", ", key: ": "}).write(&b, v)
	return b.String(), err
}

func (d *dump) write(b *strings.Builder, v any) error {
	if err := d.run.step(); err != nil {
		return err
	}
	if b.Len() > maxText {
		return d.run.spend(b.Len())
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64, *big.Int:
		b.WriteString(scalar(v))
	case float64:
		b.WriteString(jsonFloat(v))
	case Text:
		return d.text(b, v.s)
	case *List:
		return d.group(b, "[]", len(v.items), func(i int) error { return d.write(b, v.items[i]) })
	case *Dict:
		if err := cmp.Or(d.run.spend(partBytes*len(v.keys)), d.run.work(len(v.keys))); err != nil {
			return err
		}
		order := make([]int, len(v.keys))
		names := make([]string, len(v.keys))
		for i, k := range v.keys {
			name, err := jsonKey(k)
			if err != nil {
				return err
			}
			order[i], names[i] = i, name
		}
		if d.sortKeys {
			if err := d.run.work(len(order) * bits.Len(uint(len(order)))); err != nil {
				return err
			}
			slices.SortStableFunc(order, func(x, y int) int { return strings.Compare(names[x], names[y]) })
		}
		return d.group(b, "{}", len(order), func(i int) error {
			if err := d.text(b, names[order[i]]); err != nil {
				return err
			}
			b.WriteString(d.key)
			return d.write(b, v.values[order[i]])
		})
	default:
		return fmt.Errorf("object of type %s is not JSON serializable", typeName(v))
	}
	return nil
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return floatRepr(f)
}

func jsonKey(k any) (string, error) {
	switch k := k.(type) {
	case Text:
		return k.s, nil
	case nil:
		return "null", nil
	case bool:
		return strconv.FormatBool(k), nil
	case int64, *big.Int:
		return scalar(k), nil
	case float64:
		return jsonFloat(k), nil
	}
	return "", fmt.Errorf("keys must be str, int, float, bool or None, not %s", typeName(k))
}

func (d *dump) group(b *strings.Builder, brackets string, n int, item func(i int) error) error {
	if d.depth++; d.depth > maxNesting {
		return fmt.Errorf("%w: JSON nested deeper than %d", ErrLimit, maxNesting)
	}
	b.WriteByte(brackets[0])
	line := func() {
		if d.pretty {
			b.WriteByte('\n')
			b.WriteString(strings.Repeat(d.indent, d.depth))
		}
	}
	for i := range n {
		if err := d.run.scan(len(d.item) + len(d.key) + len(d.indent)*d.depth); err != nil || b.Len() > maxText {
			return cmp.Or(err, d.run.spend(b.Len()))
		}
		if i > 0 {
			b.WriteString(d.item)
		}
		line()
		if err := item(i); err != nil {
			return err
		}
	}
	d.depth--
	if n > 0 {
		line()
	}
	b.WriteByte(brackets[1])
	return nil
}

func (d *dump) text(b *strings.Builder, s string) error {
	if err := d.run.decode(len(s)); err != nil {
		return err
	}
	b.WriteByte('"')
	plain := 0 // where what is written as it is begins
	for i, r := range s {
		if r >= ' ' && r != '"' && r != '\\' && r != utf8.RuneError && (r < 0x7f || !d.ascii) {
			continue
		}
		b.WriteString(s[plain:i])
		_, size := utf8.DecodeRuneInString(s[i:])
		plain = i + size
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case strings.ContainsRune("\n\r\t\b\f", r):
			b.WriteByte('\\')
			b.WriteByte("nrtbf"[strings.IndexRune("\n\r\t\b\f", r)])
		case r < 0x20 || d.ascii && r >= 0x7f && r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		case d.ascii && r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteString(s[plain:])
	b.WriteByte('"')
	return nil
}

// toJSON is the filter that transformers puts in place of Jinja2's own.
func toJSON(r *run, v any, args []any, kw []keyword) (any, error) {
	a, err := take([]string{"ensure_ascii", "indent", "separators", "sort_keys"}, 0, args, kw)
	if err != nil {
		return nil, err
	}
	d := &dump{run: r, item: ", ", key: ": ", ascii: truth(a[0]), sortKeys: truth(a[3])}
	switch indent := a[1].(type) {
	case nil, undefined:
	case Text:
		d.pretty, d.indent = true, indent.s
	default:
		n, err := integer(indent, 0)
		if err != nil {
			return nil, err
		}
		d.pretty, d.indent = true, strings.Repeat(" ", min(max(n, 0), 64))
	}
	if d.pretty {
		d.item = ","
	}
	if given(a[2]) && a[2] != nil {
		l, ok := a[2].(*List)
		if !ok || len(l.items) != 2 {
			return nil, errors.New("separators are two texts")
		}
		d.item, d.key = r.str(l.items[0]).s, r.str(l.items[1]).s
	}
	var b strings.Builder
	if err := d.write(&b, v); err != nil {
		return nil, err
	}
	if err := r.spend(b.Len()); err != nil {
		return nil, err
	}
	return Foreign(b.String()), nil
}
