package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// spoken turns what users of other tools type into this one's commands: help
// COMMAND into COMMAND --help, --version into version.
func spoken(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	switch args[1] {
	case "--version", "-version", "-v", "-V":
		return append([]string{args[0], "version"}, args[2:]...)
	case "help", "h":
		switch {
		case len(args) == 2:
			return []string{args[0], "--help"}
		case app.Command(args[2]) == nil:
			return []string{args[0], args[2]} // which says so
		}
		return []string{args[0], args[2], "--help"}
	}
	return args
}

// permute moves the flags of a command before its arguments, because
// urfave/cli stops looking for flags at the first argument and users write
// "quantize SRC DST --scheme w4a8" as well. Everything after "--" stays. A flag
// whose value is missing comes last, for urfave/cli to say so; --help comes alone.
func permute(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	cmdAt := -1
	global := valueFlags(app.Flags)
	for i := 1; i < len(args); i++ {
		name, hasValue, isFlag := splitFlag(args[i])
		if !isFlag {
			cmdAt = i
			break
		}
		if global[name] && !hasValue {
			i++
		}
	}
	if cmdAt < 0 {
		return args
	}
	cmd := app.Command(args[cmdAt])
	if cmd == nil {
		return args
	}
	flags := append(append([]cli.Flag{}, cmd.Flags...), app.Flags...)
	takesValue, known := valueFlags(flags), names(flags)
	out := append([]string{}, args[:cmdAt+1]...)
	var rest []string
	for i := cmdAt + 1; i < len(args); i++ {
		if args[i] == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		name, hasValue, isFlag := splitFlag(args[i])
		if !isFlag {
			rest = append(rest, args[i])
			continue
		}
		if name == "help" || name == "h" {
			return append(slices.Clone(args[:cmdAt+1]), "--help")
		}
		out = append(out, args[i])
		if !takesValue[name] || hasValue {
			continue
		}
		if i++; i == len(args) || args[i] == "--" {
			return out
		}
		if next, _, isFlag := splitFlag(args[i]); isFlag && known[next] {
			return out
		}
		out = append(out, args[i])
	}
	return append(append(out, "--"), rest...)
}

// splitFlag takes "--name=value" apart. A lone "-" is an argument.
func splitFlag(arg string) (name string, hasValue, isFlag bool) {
	if len(arg) < 2 || arg[0] != '-' || arg == "--" {
		return "", false, false
	}
	name = strings.TrimLeft(arg, "-")
	if i := strings.IndexByte(name, '='); i >= 0 {
		return name[:i], true, true
	}
	return name, false, true
}

// valueFlags returns the names of the flags that take a value.
func valueFlags(flags []cli.Flag) map[string]bool {
	return names(slices.DeleteFunc(slices.Clone(flags), func(f cli.Flag) bool {
		d, ok := f.(cli.DocGenerationFlag)
		return !ok || !d.TakesValue()
	}))
}

func names(flags []cli.Flag) map[string]bool {
	out := map[string]bool{"help": true, "h": true} // every command has these
	for _, f := range flags {
		for _, n := range f.Names() {
			out[n] = true
		}
	}
	return out
}
