package main

import (
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/urfave/cli/v2"
)

// TestHelp: at every width each command's help names all its flags, says each
// default once, and keeps to the width but for words and examples that are longer.
func TestHelp(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for _, width := range []int{minColumns, 60, 80, helpColumns} {
		for _, c := range app.Commands {
			help := helpText(c, width)
			for _, f := range c.Flags {
				assert.Contains(t, help, "--"+f.Names()[0], c.Name)
			}
			for _, s := range []string{"default: false", "`", "\t", "(default: 0)) "} {
				assert.NotContains(t, help, s, c.Name)
			}
			for line := range strings.Lines(help) {
				line = strings.TrimRight(line, "\n")
				text := strings.TrimLeft(line, " ")
				short := utf8.RuneCountInString(line) <= width || !strings.Contains(text, " ") || strings.HasPrefix(text, "--") || strings.HasPrefix(line, "FLAGS")
				assert.True(t, short || strings.Contains(c.Description, text), "%s at %d: %s", c.Name, width, line)
			}
		}
	}
}

func TestFlagMeaning(t *testing.T) {
	for _, test := range []struct {
		name string
		flag cli.DocGenerationFlag
		want string
	}{
		{"a switch", &cli.BoolFlag{Name: "a", Usage: "do it"}, "do it"},
		{"a value", &cli.StringFlag{Name: "a", Usage: "best or compat", Value: "best"}, "best or compat (default: best)"},
		{"no value", &cli.StringFlag{Name: "a", Usage: "`FILE` to read"}, "FILE to read"},
		{"said in words", &cli.IntFlag{Name: "a", Usage: "threads (default: one per core)"}, "threads (default: one per core)"},
		{"said in words, with others", &cli.IntFlag{Name: "a", Usage: "drafts (default: by goal)", Value: -1}, "drafts (default: by goal)"},
		{"no number", &cli.IntFlag{Name: "a", Usage: "of `N` parts"}, "of N parts"},
		{"a number that means something", &cli.IntFlag{Name: "a", Usage: "0: all"}, "0: all (default: 0)"},
		{"required", &cli.IntFlag{Name: "a", Usage: "parts (required)"}, "parts (required)"},
	} {
		t.Run(test.name, func(t *testing.T) { assert.Equal(t, test.want, flagMeaning(test.flag)) })
	}
}

func TestNear(t *testing.T) {
	list := []string{"quantize", "inspect", "run", "mtp-remap", "repair", "diff"}
	for typed, want := range map[string]string{
		"quantise": "quantize", "QUANTIZE": "quantize", "quan": "quantize", "rnu": "run", "mtp_remap": "mtp-remap", "dif": "diff",
		"frobnicate": "", "foo": "", "": "", "x": "", "demo": "",
	} {
		assert.Equal(t, want, near(list, typed), typed)
	}
}

func TestSpoken(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for given, want := range map[string]string{
		"glmconv": "glmconv", "glmconv help": "glmconv --help", "glmconv help run": "glmconv run --help", "glmconv help run x": "glmconv run --help",
		"glmconv help nothing": "glmconv nothing", "glmconv --version --json": "glmconv version --json", "glmconv run -v": "glmconv run -v",
	} {
		assert.Equal(t, want, strings.Join(spoken(app, strings.Fields(given)), " "), given)
	}
}
