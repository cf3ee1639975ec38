package safetext

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"model.layers.0":        "model.layers.0",
		"müller → 重み ✗ 🙂":       "müller → 重み ✗ 🙂",
		"\x1b[2J\x07":           `\u001b[2J\u0007`,
		"a\u202egnp.exe":        `a\u202egnp.exe`,
		"\u2066\u2069\u200f":    `\u2066\u2069\u200f`,
		"\u009b31m":             `\u009b31m`, // the one-rune form of ESC [
		"\x9b31m":               `\x9b31m`,   // and a byte of no text
		"a\r\nb\tc":             `a\u000d\u000ab\u0009c`,
		"\x7f\ufeff\u2028":      `\u007f\ufeff\u2028`,
		"\U000e0041":            `\udb40\udc41`,
		"👩\u200d🚀":              "👩\u200d🚀",
		"cut \xe9\x87":          `cut \xe9\x87`,
		"\ufffd is a character": "\ufffd is a character",
	} {
		assert.Equal(t, want, Line(in))
	}
	assert.Equal(t, "a\n\tb\\u000d", Text("a\n\tb\r"))
}

// TestWriter: pieces of a rune arrive together, whatever the cuts.
func TestWriter(t *testing.T) {
	text := "name \u202e重\x1b[0m\n\x9b end\U000e0041 \xe9"
	for cut := range len(text) {
		for second := cut; second <= len(text); second++ {
			var b strings.Builder
			w := NewWriter(&b)
			for _, part := range []string{text[:cut], text[cut:second], text[second:]} {
				n, err := w.Write([]byte(part))
				require.NoError(t, err)
				require.Equal(t, len(part), n)
			}
			require.NoError(t, w.Flush())
			require.Equal(t, Text(text), b.String(), "cut at %d and %d", cut, second)
		}
	}
}

func FuzzWriter(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b]0;title\x07", "\u202e", "\xf0\x9f", "{\"a\":\"\\u202e\"}"} {
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, s string, cut int) {
		var b strings.Builder
		w := NewWriter(&b)
		cut = max(0, min(cut, len(s)))
		_, _ = w.Write([]byte(s[:cut]))
		_, _ = w.Write([]byte(s[cut:]))
		_ = w.Flush()
		if b.String() != Text(s) {
			t.Fatalf("%q in two parts is %q, at once %q", s, b.String(), Text(s))
		}
		for _, r := range b.String() {
			if r != '\n' && r != '\t' && unfit(r) {
				t.Fatalf("%q keeps %U", s, r)
			}
		}
		if !utf8.ValidString(b.String()) {
			t.Fatalf("%q is no UTF-8", b.String())
		}
		if raw, err := json.Marshal(map[string]string{"k": s}); err == nil {
			var before, after map[string]string
			if json.Unmarshal(raw, &before) != nil || json.Unmarshal([]byte(Text(string(raw))), &after) != nil || before["k"] != after["k"] {
				t.Fatalf("JSON of %q changes its meaning", s)
			}
		}
	})
}
