package jinja

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// needle is how much of a separator the library searches for. With more, made
// for the purpose, its search takes time in proportion to both texts.
const needle = 63

// index is strings.Index with its work counted.
func (r *run) index(s, sep string) int {
	if r.err != nil {
		return -1
	}
	if len(sep) <= needle {
		i := strings.Index(s, sep)
		seen := i + len(sep)
		if i < 0 {
			seen = len(s)
		}
		_ = r.scan(seen)
		return i
	}
	for from := 0; ; from++ {
		i := strings.Index(s[from:], sep[:needle])
		if i < 0 {
			_ = r.scan(len(s) - from)
			return -1
		}
		if from += i; r.scan(i+len(sep)) != nil || len(s)-from < len(sep) {
			return -1
		}
		if s[from:from+len(sep)] == sep {
			return from
		}
	}
}

// lastIndex is strings.LastIndex with its work counted.
func (r *run) lastIndex(s, sep string) int {
	tail := sep[max(len(sep)-needle, 0):]
	for {
		i := strings.LastIndex(s, tail)
		if r.work(1+(len(s)-max(i, 0)+len(sep))/scanned) != nil || i < 0 {
			return -1
		}
		end := i + len(tail)
		if strings.HasSuffix(s[:end], sep) {
			return end - len(sep)
		}
		s = s[:end-1]
	}
}

// occurrences is strings.Count with its work counted, up to a number (most <
// 0: all).
func (r *run) occurrences(s, sep string, most int) (n int) {
	if sep == "" {
		if r.scan(len(s)) != nil {
			return 0
		}
		return utf8.RuneCountInString(s) + 1
	}
	for most < 0 || n < most {
		i := r.index(s, sep)
		if i < 0 || r.work(1) != nil {
			break
		}
		n, s = n+1, s[i+len(sep):]
	}
	return n
}

// chars splits into code points.
func (r *run) chars(t Text) []any {
	if r.decode(len(t.s)) != nil {
		return nil
	}
	n := t.runes()
	if r.spend((partBytes+itemBytes)*n) != nil {
		return nil
	}
	out := make([]any, 0, n)
	for i := 0; i < len(t.s); {
		_, size := utf8.DecodeRuneInString(t.s[i:])
		out = append(out, t.Cut(i, i+size))
		i += size
	}
	return out
}

// part counts one more piece of a text that is taken apart.
func (r *run) part() bool { return r.work(1) == nil && r.spend(partBytes) == nil }

// split is str.split with a separator, at most n cuts (n < 0: all).
func (r *run) split(t Text, sep string, n int) []any {
	out := []any{}
	for n != 0 {
		i := r.index(t.s, sep)
		if i < 0 || !r.part() {
			break
		}
		out = append(out, t.Cut(0, i))
		t = t.Cut(i+len(sep), len(t.s))
		n--
	}
	return append(out, t)
}

// rsplit cuts from the right.
func (r *run) rsplit(t Text, sep string, n int) []any {
	var out []any
	for n != 0 {
		i := r.lastIndex(t.s, sep)
		if i < 0 || !r.part() {
			break
		}
		out = append(out, t.Cut(i+len(sep), len(t.s)))
		t = t.Cut(0, i)
		n--
	}
	out = append(out, t)
	slices.Reverse(out)
	return out
}

// fields is str.split without a separator.
func (r *run) fields(t Text, n int) []any {
	out := []any{}
	if r.decode(len(t.s)) != nil {
		return out
	}
	for t = t.strip(nil, true, false); t.s != ""; t = t.strip(nil, true, false) {
		i := strings.IndexFunc(t.s, isSpace)
		if i < 0 || n == 0 {
			return append(out, t)
		}
		if !r.part() {
			return out
		}
		out, t, n = append(out, t.Cut(0, i)), t.Cut(i, len(t.s)), n-1
	}
	return out
}

// replace is str.replace, n < 0: everywhere. The result is bounded before it
// is made.
func (r *run) replace(t Text, old string, by Text, n int) Text {
	count := r.occurrences(t.s, old, n)
	if n >= 0 {
		count = min(count, n)
	}
	if r.work(count) != nil || r.spend(len(t.s)+count*(len(by.s)-len(old))) != nil {
		return Text{}
	}
	if count == 0 {
		return t
	}
	var b builder
	for range count {
		i, size := r.index(t.s, old), len(old)
		if i < 0 {
			break // a bound was reached
		}
		if old == "" { // before every character, and at the end
			b.add(by)
			_, size = utf8.DecodeRuneInString(t.s)
			b.add(t.Cut(0, size))
		} else {
			b.add(t.Cut(0, i))
			b.add(by)
		}
		t = t.Cut(i+size, len(t.s))
	}
	b.add(t)
	return b.text()
}

// mapRunes replaces every character, i counting from 0.
func (r *run) mapRunes(t Text, f func(i int, c rune) rune) Text {
	if r.decode(len(t.s)) != nil || r.spend(len(t.s)) != nil {
		return Text{}
	}
	s := make([]byte, 0, len(t.s))
	var m []byte
	if t.m != "" {
		m = make([]byte, 0, len(t.m))
	}
	i := 0
	for at, c := range t.s {
		s = utf8.AppendRune(s, f(i, c))
		for m != nil && len(m) < len(s) {
			m = append(m, t.m[at])
		}
		i++
	}
	return Text{string(s), string(m)}
}
