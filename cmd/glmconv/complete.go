package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/safetext"
)

// completeWord is the argument by which the scripts of shells ask for what can
// stand in the place of the last word: glmconv __complete quantize --scheme w
// prints "w8a8", "w4a8" and so on, one a line, each with a tab and a description
// if it has one.
const completeWord = "__complete"

// emptyWord stands for an empty last word where a shell drops empty arguments.
const emptyWord = ":empty:"

// candidate is what a word can become; one that ends in "/", "=" or ":" goes on.
type candidate struct{ value, description string }

// printCandidates answers one question of a shell.
func printCandidates(w io.Writer, app *cli.App, words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	if last := &words[len(words)-1]; *last == emptyWord {
		*last = ""
	}
	for _, c := range complete(app, words) {
		line := safetext.Line(c.value)
		if c.description != "" {
			line += "\t" + safetext.Line(c.description)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// complete lists what the last of words can become; those before it are whole.
func complete(app *cli.App, words []string) []candidate {
	before, cur := words[:len(words)-1], words[len(words)-1]
	if len(before) == 0 {
		return beginning(commandNames(app), cur)
	}
	cmd := app.Command(before[0])
	if cmd == nil || cmd.Hidden {
		return nil
	}
	before = before[1:]
	if at := slices.Index(before, "quantize"); cmd.Name == "submit" && at >= 0 {
		return complete(app, append(slices.Clone(before[at:]), cur))
	}
	args := 0
	var open cli.Flag // the flag whose value cur is
	for i := 0; i < len(before); i++ {
		name, hasValue, isFlag := splitFlag(before[i])
		if !isFlag {
			args++
			continue
		}
		if f := findFlag(cmd, name); f != nil && takesValue(f) && !hasValue {
			if i++; i == len(before) {
				open = f
			}
		}
	}
	name, hasValue, isFlag := splitFlag(cur)
	switch {
	case open != nil:
		return flagValue(cmd.Name, open, "", cur)
	case isFlag && hasValue:
		if f := findFlag(cmd, name); f != nil {
			prefix, value, _ := strings.Cut(cur, "=")
			return flagValue(cmd.Name, f, prefix+"=", value)
		}
		return nil
	case isFlag || cur == "-" || cur == "--":
		return beginning(flagNames(cmd, before), cur)
	}
	return argument(app, cmd, before, args, cur)
}

func commandNames(app *cli.App) (list []candidate) {
	for _, c := range app.Commands {
		if !c.Hidden {
			list = append(list, candidate{c.Name, c.Usage})
		}
	}
	return append(list, candidate{"help", "list the commands, or say what one does"})
}

// flagNames are the flags of a command that are not given yet.
func flagNames(cmd *cli.Command, given []string) (list []candidate) {
	for _, f := range append(slices.Clone(cmd.Flags), cli.Flag(cli.HelpFlag)) {
		long := "--" + f.Names()[0]
		if d, ok := f.(cli.DocGenerationFlag); ok && (repeatable(f) || !slices.Contains(given, long)) {
			list = append(list, candidate{long, strings.ReplaceAll(d.GetUsage(), "`", "")})
		}
	}
	return list
}

// argument completes one of a command's arguments.
func argument(app *cli.App, cmd *cli.Command, before []string, at int, cur string) []candidate {
	switch cmd.Name {
	case "help":
		return beginning(commandNames(app), cur)
	case "version", "demo":
		return nil
	case "explain":
		var list []candidate
		for _, e := range explanations() {
			list = append(list, candidate{e.Code, e.Means})
		}
		return beginning(list, cur)
	case "completion":
		return beginning(plain(shells), cur)
	case "submit":
		return beginning(plain([][]string{{"slurm", "k8s"}, {"quantize"}}[min(at, 1)]), cur)
	case "bench":
		if at == 0 {
			return beginning(plain([]string{"http://", "https://", "compare", "read"}), cur)
		}
		return completePath(cur, "", false)
	case "verify":
		return completePath(cur, "", !slices.Contains(before, "--merge"))
	}
	return completePath(cur, "", true)
}

// flagValue completes a flag's value; prefix is what stands before it in the word.
func flagValue(command string, f cli.Flag, prefix, cur string) []candidate {
	kind, list := valuesOf(command, f)
	switch kind {
	case listValue:
		out := beginning(plain(list), cur)
		for i := range out {
			out[i].value = prefix + out[i].value
		}
		return out
	case fileValue, folderValue:
		return completePath(cur, prefix, kind == folderValue)
	}
	return nil
}

// completePath completes a path: folders that hold a checkpoint end there, other
// folders go on.
func completePath(cur, prefix string, foldersOnly bool) (list []candidate) {
	dir, base := filepath.Split(cur)
	look := dir
	if home, err := os.UserHomeDir(); err == nil && strings.HasPrefix(dir, "~/") {
		look = filepath.Join(home, dir[2:])
	}
	if look == "" {
		look = "."
	}
	entries, err := os.ReadDir(look)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, base) || strings.HasPrefix(name, ".") && !strings.HasPrefix(base, ".") {
			continue
		}
		full := filepath.Join(look, name)
		st, err := os.Stat(full)
		switch {
		case err != nil:
		case st.IsDir() && isFile(filepath.Join(full, "config.json")):
			list = append(list, candidate{prefix + dir + name, "checkpoint"})
		case st.IsDir():
			list = append(list, candidate{prefix + dir + name + "/", ""})
		case !foldersOnly:
			list = append(list, candidate{prefix + dir + name, ""})
		}
	}
	return list
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

func plain(values []string) []candidate {
	out := make([]candidate, len(values))
	for i, v := range values {
		out[i] = candidate{value: v}
	}
	return out
}

// beginning keeps the candidates that begin with what was typed.
func beginning(list []candidate, cur string) []candidate {
	return slices.DeleteFunc(list, func(c candidate) bool { return !strings.HasPrefix(c.value, cur) })
}

func findFlag(cmd *cli.Command, name string) cli.Flag {
	for _, f := range cmd.Flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

// repeatable reports whether a flag can be given more than once.
func repeatable(f cli.Flag) bool {
	if d, ok := f.(cli.DocGenerationSliceFlag); ok && d.IsSliceFlag() {
		return true
	}
	g, ok := f.(*cli.GenericFlag)
	if !ok {
		return false
	}
	_, ok = g.Value.(*fileList)
	return ok
}
