package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/check"
)

// explainResult is the result of glmconv explain --json: the codes asked for.
type explainResult struct {
	Schema string        `json:"schema"`
	Codes  []explanation `json:"codes"`
}

// explanation is a code with what leads to it and what to do.
type explanation struct {
	Code     string `json:"code"`
	Of       string `json:"of"`       // "check", "verify" or "exit"
	Severity string `json:"severity"` // of findings of check: "error", "warning" or "info"
	Means    string `json:"means"`
	Cause    string `json:"cause"`
	Remedy   string `json:"remedy"`
}

const explainSchema = "glmconv.explain/1"

// explanations are all codes: those of check, of verify, and exit codes.
func explanations() []explanation {
	var all []explanation
	for _, c := range check.Codes() {
		e, _ := check.Explain(c.Name)
		all = append(all, explanation{c.Name, "check", string(c.Severity), c.Means, e.Cause, e.Remedy})
	}
	for _, c := range verify.Checks() {
		all = append(all, explanation{c.Name, "verify", "", c.Means, c.Cause, c.Remedy})
	}
	for _, e := range exits {
		all = append(all, explanation{strconv.Itoa(e.code), "exit", "", e.means, e.cause, e.remedy})
	}
	return all
}

func cmdExplain() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "say what a code means, what leads to it and what to do",
		ArgsUsage: "[CODE...]",
		Description: "CODE is a finding of check (hash-mismatch), a check of verify's verdict (oracle), or an\n" +
			"exit code (65). Without one, all are listed.",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			list := explanations()
			if c.Args().Present() {
				var err error
				if list, err = explain(list, c.Args().Slice()); err != nil {
					return err
				}
			}
			switch {
			case c.Bool("json"):
				return writeJSON(c, explainResult{explainSchema, list})
			case c.Args().Present():
				return writeExplanations(c.App.Writer, list)
			default:
				return listCodes(c.App.Writer, list)
			}
		},
	}
}

// explain picks the codes that are asked for.
func explain(all []explanation, codes []string) ([]explanation, error) {
	var out []explanation
	for _, word := range codes {
		code := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(word)), "exit-")
		at := len(out)
		for _, e := range all {
			if e.Code == code {
				out = append(out, e)
			}
		}
		if len(out) == at {
			return nil, usagef("unknown code %q%s; glmconv explain lists them", word, nearCode(all, code))
		}
	}
	return out, nil
}

// nearCode names the code that a word is nearest to, or all that hold it.
func nearCode(all []explanation, word string) string {
	var list []string
	var holding []string
	for _, e := range all {
		list = append(list, e.Code)
		if len(word) > 2 && strings.Contains(e.Code, word) {
			holding = append(holding, e.Code)
		}
	}
	if len(holding) > 0 && len(holding) < 6 {
		return " (there is " + strings.Join(holding, ", ") + ")"
	}
	return didYouMean(list, word)
}

func writeExplanations(w io.Writer, list []explanation) error {
	for i, e := range list {
		head := map[string]string{"check": "a finding of check", "verify": "a check of verify", "exit": "an exit code"}[e.Of]
		if e.Severity != "" {
			head += ", " + e.Severity
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		if _, err := fmt.Fprintf(w, "%s · %s\n  means   %s\n  cause   %s\n  remedy  %s\n", e.Code, head, e.Means, e.Cause, e.Remedy); err != nil {
			return err
		}
	}
	return nil
}

// listCodes prints one line a code.
func listCodes(w io.Writer, list []explanation) error {
	of := ""
	for _, e := range list {
		if e.Of != of {
			title := map[string]string{"check": "findings of glmconv check", "verify": "checks of glmconv verify", "exit": "exit codes"}[e.Of]
			fmt.Fprintf(w, "%s%s\n", map[bool]string{true: "", false: "\n"}[of == ""], title)
			of = e.Of
		}
		if _, err := fmt.Fprintf(w, "  %-28s %-8s %s\n", e.Code, e.Severity, e.Means); err != nil {
			return err
		}
	}
	return nil
}
