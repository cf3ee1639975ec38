// Package safetext makes text safe to show. Names of tensors and files, values of
// configurations and messages of templates are written by strangers: on a
// terminal their control characters would move the cursor, change its title or
// answer for the user, and marks of direction would show one name as another.
//
//	w := safetext.NewWriter(os.Stderr) // for all that a program prints
//	safetext.Line(name)                // for a name within a line
//
// What is not shown as it is becomes \u followed by four hexadecimal digits,
// once for each UTF-16 unit. That is also how JSON writes such characters, so
// JSON that goes through a [Writer] keeps its meaning.
package safetext

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line returns s fit to stand within one line.
func Line(s string) string { return clean(s, false) }

// Text returns s with its lines and tabs, and all else as [Line] does.
func Text(s string) string { return clean(s, true) }

func clean(s string, lines bool) string {
	if at := firstUnfit(s, lines); at == len(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		at := firstUnfit(s, lines)
		b.WriteString(s[:at])
		if s = s[at:]; s == "" {
			break
		}
		r, n := utf8.DecodeRuneInString(s)
		escape(&b, r, s[0], n)
		s = s[n:]
	}
	return b.String()
}

// firstUnfit returns the place of the first rune that is not shown, or the
// length of s.
func firstUnfit(s string, lines bool) int {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f || lines && (c == '\n' || c == '\t') {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || unfit(r) {
			return i
		}
		i += n
	}
	return len(s)
}

// unfit are control characters, line and paragraph separators, marks of
// direction, other invisible formatting and private or unassigned code points.
// The joiners of scripts and pictographs are shown.
func unfit(r rune) bool {
	switch r {
	case '\u200c', '\u200d':
		return false
	case '\u2028', '\u2029':
		return true
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r) || unicode.Is(unicode.Cs, r)
}

// escape writes what stands for a rune, or for a byte that is no UTF-8.
func escape(b *strings.Builder, r rune, first byte, n int) {
	switch {
	case r == utf8.RuneError && n == 1:
		fmt.Fprintf(b, `\x%02x`, first)
	case r > 0xffff:
		hi, lo := utf16.EncodeRune(r)
		fmt.Fprintf(b, `\u%04x\u%04x`, hi, lo)
	default:
		fmt.Fprintf(b, `\u%04x`, r)
	}
}

// Writer passes text on as [Text] shows it. It may be used by several
// goroutines.
type Writer struct {
	mu   sync.Mutex
	w    io.Writer
	part []byte // of a rune whose end has not come yet
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Raw returns the writer below, for what has been made safe or has to arrive as
// it is.
func (w *Writer) Raw() io.Writer { return w.w }

// Write passes p on. The bytes counted are those of p.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := string(p)
	if len(w.part) > 0 {
		text = string(w.part) + text
		w.part = nil
	}
	for i := max(0, len(text)-utf8.UTFMax+1); i < len(text); i++ {
		if utf8.RuneStart(text[i]) && !utf8.FullRuneInString(text[i:]) {
			w.part = []byte(text[i:])
			text = text[:i]
			break
		}
	}
	if _, err := io.WriteString(w.w, Text(text)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush passes on what was kept of a rune that never ended.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := Text(string(w.part))
	w.part = nil
	if rest == "" {
		return nil
	}
	_, err := io.WriteString(w.w, rest)
	return err
}
