package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// useOwnHelp has urfave/cli print help as helpText lays it out.
var useOwnHelp = sync.OnceFunc(func() {
	cli.HelpPrinter = func(w io.Writer, _ string, data any) {
		fmt.Fprint(w, helpText(data, helpWidth(raw(w))))
	}
})

// Widths of help in columns: what a reader's eye can follow, and what any window has.
const (
	helpColumns = 100
	minColumns  = 40
)

// helpWidth is how many columns help may take: those of the terminal, or
// $COLUMNS where that is set, but no more than is pleasant to read.
func helpWidth(w io.Writer) int {
	columns := helpColumns
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			columns = n
		}
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		columns = n
	}
	return min(max(columns, minColumns), helpColumns)
}

// helpText is the help of an app or of a command.
func helpText(data any, width int) string {
	var b strings.Builder
	section := func(title, body string) {
		if body != "" {
			b.WriteString(title + ":\n" + body + "\n")
		}
	}
	switch it := data.(type) {
	case *cli.App:
		section("NAME", wrapped(it.Name+" - "+it.Usage, 3, width))
		section("USAGE", wrapped(it.Name+" COMMAND [flags]", 3, width))
		section("DESCRIPTION", wrapped(it.Description, 3, width))
		var rows [][2]string
		for _, c := range commandNames(it) {
			rows = append(rows, [2]string{c.value, c.description})
		}
		section("COMMANDS", table(rows, width))
	case *cli.Command:
		name := "glmconv " + it.Name
		section("NAME", wrapped(name+" - "+it.Usage, 3, width))
		section("USAGE", wrapped(strings.Join(strings.Fields(name+" "+it.ArgsUsage+" [flags]"), " "), 3, width))
		section("DESCRIPTION", wrapped(it.Description, 3, width))
		groups := flagGroups(it)
		section("FLAGS", table(groups[ownFlag], width))
		section("FLAGS FOR ADDRESSES (hf://, s3:// and the like)", table(groups[remoteFlag], width))
		section("FLAGS OF EVERY COMMAND", table(groups[commonFlag], width))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// The groups of a command's flags.
const (
	ownFlag = iota
	remoteFlag
	commonFlag
)

// flagGroups are the rows of help for a command's own flags, for those of
// remote sources, and for those that every command has.
func flagGroups(c *cli.Command) (groups [3][][2]string) {
	has := func(flags []cli.Flag, f cli.Flag) bool {
		return slices.ContainsFunc(flags, func(g cli.Flag) bool { return g.Names()[0] == f.Names()[0] })
	}
	for _, f := range c.VisibleFlags() {
		at := ownFlag
		switch {
		case has(remoteFlags(), f) && remoteCommands[c.Name] > 0:
			at = remoteFlag
		case has(append(commonFlags(), cli.HelpFlag), f):
			at = commonFlag
		}
		if d, ok := f.(cli.DocGenerationFlag); ok {
			groups[at] = append(groups[at], [2]string{flagSyntax(f, d), flagMeaning(d)})
		}
	}
	return groups
}

// flagSyntax is a flag as it is typed: "--out FILE", "--help, -h".
func flagSyntax(f cli.Flag, d cli.DocGenerationFlag) string {
	var names []string
	for _, n := range f.Names() {
		n = strings.Repeat("-", min(len(n), 2)) + n
		if d.TakesValue() {
			n += " " + cmp.Or(placeholder(f), "VALUE")
		}
		names = append(names, n)
	}
	return strings.Join(names, ", ")
}

// flagMeaning is what a flag does, with its default. A default that is said in
// words, or that is nothing ("", 0 where no 0 is spoken of), is not said again.
func flagMeaning(d cli.DocGenerationFlag) string {
	usage := strings.ReplaceAll(d.GetUsage(), "`", "")
	v := strings.Trim(d.GetDefaultText(), `"`)
	switch {
	case !d.TakesValue() || v == "" || strings.Contains(usage, "default:") || strings.Contains(usage, "(required"):
		return usage
	case (v == "0" || v == "0s") && !saysZero(usage):
		return usage
	}
	return usage + " (default: " + v + ")"
}

// saysZero reports whether a text says what 0 means.
func saysZero(text string) bool {
	return slices.Contains(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsDigit(r) && r != '.' }), "0")
}

// table sets rows of two columns, the second wrapped; where the window is
// narrow or the first is long, the second stands below it.
func table(rows [][2]string, width int) string {
	const indent, widest, narrow = 3, 26, 64
	first := 0
	for _, r := range rows {
		if n := utf8.RuneCountInString(r[0]); n <= widest {
			first = max(first, n)
		}
	}
	second := indent + first + 2
	if width < narrow {
		second = indent + 4
	}
	var b strings.Builder
	for _, r := range rows {
		head := strings.Repeat(" ", indent) + r[0]
		text := wrapped(r[1], second, width)
		if gap := second - utf8.RuneCountInString(head); gap >= 2 && text != "" {
			b.WriteString(head + strings.Repeat(" ", gap) + strings.TrimLeft(text, " "))
			continue
		}
		b.WriteString(head + "\n" + text)
	}
	return b.String()
}

// wrapped indents text and breaks its lines between words, so that they take at
// most width columns. Paragraphs are filled; lines that are indented themselves
// stay as they are.
func wrapped(text string, indent, width int) string {
	var b, fill strings.Builder
	flush := func() {
		b.WriteString(filled(fill.String(), indent, width))
		fill.Reset()
	}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
			flush()
			b.WriteByte('\n')
		case strings.HasPrefix(line, "  "):
			flush()
			b.WriteString(strings.Repeat(" ", indent) + line + "\n")
		default:
			fill.WriteString(line + "\n")
		}
	}
	flush()
	return b.String()
}

// filled sets the words of text in lines.
func filled(text string, indent, width int) string {
	var b strings.Builder
	at := 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if at > 0 && at+1+n > width {
			b.WriteByte('\n')
			at = 0
		}
		if at == 0 {
			b.WriteString(strings.Repeat(" ", indent))
			at = indent
		} else {
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	if at > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}
