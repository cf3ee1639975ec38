package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

const (
	hostOS   = runtime.GOOS
	hostArch = runtime.GOARCH
)

// description is what glmconv __describe prints.
type description struct {
	Usage       string
	Description string
	Commands    []struct {
		Name, Usage, Args, Description string
		Flags, Common                  []struct {
			Names          []string
			Value          string
			Usage, Default string
			Values         []string
			Repeatable     bool
		}
	}
	Codes []struct{ Code, Of, Severity, Means, Cause, Remedy string }
}

// manuals are glmconv(1) and a page for each command.
func manuals(d *description, version string, date time.Time) []text {
	head := func(name string) string {
		return fmt.Sprintf(".TH %s 1 %s \"glmconv %s\" \"glmconv\"\n.nh\n", strings.ToUpper(roff(name)), date.Format(time.DateOnly), version)
	}
	page := func(name, body string) text {
		return text{"man/" + name + ".1", "/usr/share/man/man1/" + name + ".1.gz", []byte(body)}
	}
	var all []text
	var b strings.Builder
	b.WriteString(head("glmconv") + ".SH NAME\nglmconv \\- " + roff(d.Usage) + "\n.SH SYNOPSIS\n.B glmconv\n.I command\n[arguments] [flags]\n.SH DESCRIPTION\n" + paragraphs(d.Description) + ".SH COMMANDS\n")
	for _, c := range d.Commands {
		fmt.Fprintf(&b, ".TP\n.BR glmconv\\-%s (1)\n%s\n", roff(c.Name), roff(c.Usage))
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, c := range d.Codes {
		if c.Of == "exit" {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s: %s\n", c.Code, roff(c.Means), roff(c.Cause))
		}
	}
	b.WriteString(".SH SEE ALSO\n" + homepage + "\n")
	all = append(all, page("glmconv", b.String()))
	for _, c := range d.Commands {
		b.Reset()
		name := "glmconv-" + c.Name
		fmt.Fprintf(&b, "%s.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B glmconv %s\n%s [flags]\n", head(name), roff(name), roff(c.Usage), roff(c.Name), roff(c.Args))
		if c.Description != "" {
			b.WriteString(".SH DESCRIPTION\n" + paragraphs(c.Description))
		}
		b.WriteString(".SH FLAGS\n")
		for _, f := range append(c.Flags, c.Common...) {
			var names []string
			for _, n := range f.Names {
				names = append(names, "\\fB\\-\\-"+roff(n)+"\\fR")
			}
			value := ""
			if f.Value != "" {
				value = " \\fI" + roff(f.Value) + "\\fR"
			}
			usage := roff(f.Usage)
			if f.Default != "" {
				usage += " (default " + roff(f.Default) + ")"
			}
			fmt.Fprintf(&b, ".TP\n%s%s\n%s\n", strings.Join(names, ", "), value, usage)
		}
		b.WriteString(".SH SEE ALSO\n.BR glmconv (1)\n")
		all = append(all, page(name, b.String()))
	}
	return all
}

// paragraphs sets a help text: indented lines stay as they are.
func paragraphs(s string) string {
	var b strings.Builder
	literal := false
	for line := range strings.Lines(strings.TrimSpace(s)) {
		line = strings.TrimRight(line, "\n")
		switch indented := strings.HasPrefix(line, "  "); {
		case line == "":
			if literal {
				b.WriteString(".fi\n")
				literal = false
			}
			b.WriteString(".PP\n")
			continue
		case indented && !literal:
			b.WriteString(".nf\n")
			literal = true
		case !indented && literal:
			b.WriteString(".fi\n")
			literal = false
		}
		b.WriteString(roff(line) + "\n")
	}
	if literal {
		b.WriteString(".fi\n")
	}
	return strings.ReplaceAll(b.String(), ".PP\n.PP\n", ".PP\n")
}

// roff makes text safe: no backslash, hyphen or leading control character is taken
// for an instruction.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
