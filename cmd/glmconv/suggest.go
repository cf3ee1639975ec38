package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/quant/layout"
)

// otherNames are words by which other tools call what a command does.
var otherNames = map[string]string{
	"convert": "quantize", "compress": "quantize", "quant": "quantize", "info": "inspect", "show": "inspect", "validate": "check", "lint": "check",
	"compare": "diff", "fix": "repair", "generate": "run", "chat": "run", "infer": "run", "benchmark": "bench", "upload": "push", "server": "serve",
	"deploy": "recipe", "calib": "calibrate", "remap": "mtp-remap", "completions": "completion",
}

// near returns the word of a list that a misspelt one was meant to be, or "":
// one that it begins, or the one that fewest changes lead to, if they are few.
func near(list []string, typed string) string {
	typed = strings.ToLower(typed)
	best, least := "", max(1, len(typed)/3)+1
	for _, w := range list {
		if d := changes(typed, w); d < least {
			best, least = w, d
		}
	}
	if best != "" || len(typed) < 3 {
		return best
	}
	for _, w := range list {
		if strings.HasPrefix(w, typed) {
			return w
		}
	}
	return ""
}

// changes counts the insertions, deletions, replacements and swaps of
// neighbours that lead from a to b (optimal string alignment).
func changes(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			differs := 1
			if a[i] == b[j] {
				differs = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+differs)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// didYouMean is " (did you mean …)", or "" where no word of the list is near.
func didYouMean(list []string, typed string) string {
	if w := near(list, typed); w != "" {
		return fmt.Sprintf(" (did you mean %q)", w)
	}
	return ""
}

// unknownCommand says that there is no such command, and which was meant.
func unknownCommand(app *cli.App, word string) error {
	var list []string
	for _, c := range commandNames(app) {
		list = append(list, c.value)
	}
	if w := otherNames[strings.ToLower(word)]; w != "" {
		return usagef("unknown command %q (did you mean %q); glmconv --help lists them", word, w)
	}
	return usagef("unknown command %q%s; glmconv --help lists them", word, didYouMean(list, word))
}

// otherSchemes are names that other tools give to schemes, or to what is nearest.
var otherSchemes = map[string]layout.Scheme{
	"int8": layout.W8A8, "w8a8-int8": layout.W8A8, "smoothquant": layout.W8A8, "w8a8-fp8": layout.FP8, "fp8-dynamic": layout.FP8,
	"int4": layout.W4A16, "awq": layout.W4A16, "gptq": layout.W4A16, "marlin": layout.W4A16, "fp4": layout.NVFP4, "dequantize": layout.BF16, "fp16": layout.BF16,
}

// unknownScheme lists the schemes there are, and which was meant.
func unknownScheme(typed string) error {
	name := strings.ReplaceAll(strings.ToLower(typed), "_", "-")
	meant := didYouMean(texts(layout.Schemes), name)
	if s := otherSchemes[name]; s != "" {
		meant = fmt.Sprintf(" (did you mean %q)", s)
	}
	return &exitError{code: exitUsage, err: &advised{
		what: fmt.Sprintf("unknown scheme %q%s: the schemes are %s", typed, meant, schemeNames()),
		hint: "--scheme w8a8 (A100, Ascend) or fp8 (H100 and newer) fits most machines",
	}}
}

// onUsageError says what package flag found in the words of this tool.
func onUsageError(c *cli.Context, err error, _ bool) error {
	name, command, flags := "glmconv", "glmconv", c.App.Flags
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		name, command, flags = c.Command.Name, "glmconv "+c.Command.Name, c.Command.Flags
	}
	said := err.Error()
	if typed, ok := strings.CutPrefix(said, "flag provided but not defined: -"); ok {
		var list []string
		for _, f := range flags {
			list = append(list, f.Names()...)
		}
		meant := ""
		if w := near(list, typed); w != "" {
			meant = fmt.Sprintf(" (did you mean --%s)", w)
		}
		return usagef("%s has no flag %s%s; %s --help lists them", name, dashed(typed), meant, command)
	}
	if typed, ok := strings.CutPrefix(said, "flag needs an argument: -"); ok {
		return usagef("%s needs a value%s; see %s --help", dashed(typed), valueHint(flags, typed), command)
	}
	if value, flag, why, ok := wrongValue(said); ok {
		return usagef("%s %s: %s; see %s --help", dashed(flag), value, why, command)
	}
	return &exitError{code: exitUsage, err: err}
}

// wrongValue takes apart what package flag says of a value that a flag cannot take.
func wrongValue(said string) (value, flag, why string, ok bool) {
	said, found := strings.CutPrefix(said, "invalid ")
	said = strings.TrimPrefix(said, "boolean ")
	said, isValue := strings.CutPrefix(said, "value ")
	at := strings.LastIndex(said, " for ")
	if !found || !isValue || at < 0 {
		return "", "", "", false
	}
	flag, why, ok = strings.Cut(strings.TrimPrefix(said[at+len(" for "):], "flag "), ": ")
	switch why {
	case "parse error":
		why = "it cannot be read"
	case "value out of range":
		why = "it is out of range"
	}
	return said[:at], strings.TrimPrefix(flag, "-"), why, ok
}

// valueHint is what the value of a flag is, as its help says.
func valueHint(flags []cli.Flag, name string) string {
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if ok && f.Names()[0] == name && d.GetUsage() != "" {
			return ": " + strings.ReplaceAll(d.GetUsage(), "`", "")
		}
	}
	return ""
}

// dashed is a flag's name as it is typed.
func dashed(name string) string { return strings.Repeat("-", min(len(name), 2)) + name }
