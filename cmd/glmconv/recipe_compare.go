package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/glmconv/glmconv/internal/safetext"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/recipe"
)

// engineAnswer is what one engine makes of a question.
type engineAnswer struct {
	Engine  engine.Engine   `json:"engine"`
	Release string          `json:"release"`
	Error   string          `json:"error,omitempty"` // the question contradicts itself for this engine
	Recipe  json.RawMessage `json:"recipe"`          // null with an error

	recipe *recipe.Recipe
}

// compareEngines prints a line for each engine, and what is asked for of each.
// The exit code is that of the best answer.
func compareEngines(c *cli.Context, q recipe.Query) error {
	var answers []engineAnswer
	var wrong error
	code := exitUsage
	for _, e := range engine.Engines {
		q.Release = engine.Newest(e)
		a := engineAnswer{Engine: e, Release: q.Release.String()}
		r, err := recipe.Decide(q)
		var u *recipe.UsageError
		switch {
		case errors.As(err, &u):
			wrong, a.Error = err, err.Error()
		case err != nil:
			return err
		default:
			a.recipe, code = r, betterCode(code, answerCode(r))
		}
		answers = append(answers, a)
	}
	if code == exitUsage { // for every engine
		return usageOf(wrong)
	}
	if err := showComparison(c, answers); err != nil {
		return usageOf(err)
	}
	if code != exitOK {
		return &exitError{code: code, silent: true}
	}
	return nil
}

// answerCode is the exit code of one recipe.
func answerCode(r *recipe.Recipe) int {
	switch {
	case r.Refused != nil:
		return exitNegative
	case r.Tight:
		return exitUndecided
	}
	return exitOK
}

// betterCode returns the one of two exit codes that says more can be served.
func betterCode(a, b int) int {
	best := []int{exitOK, exitUndecided, exitNegative, exitUsage}
	return best[min(slices.Index(best, a), slices.Index(best, b))]
}

func showComparison(c *cli.Context, answers []engineAnswer) error {
	forms, dir := recipeForms(c), c.String("out-dir")
	if dir == "" && slices.Contains(forms, "json") {
		return printComparison(c, answers)
	}
	if dir != "" && len(forms) == 0 {
		forms = []string{"command"}
	}
	for _, a := range answers {
		mark := ""
		if dir == "" && len(forms) > 0 && !c.Bool("explain") {
			mark = "# " // what follows may be a script
		}
		fmt.Fprintf(c.App.Writer, "%s%-18s %s\n", mark, a.Release, safetext.Line(a.line()))
		switch {
		case a.recipe == nil:
			continue
		case c.Bool("explain"):
			fmt.Fprint(c.App.Writer, safetext.Text(a.recipe.Explain()), "\n")
			continue
		case a.recipe.Refused != nil:
			continue
		}
		for _, f := range forms {
			into := dir
			if dir != "" {
				into = filepath.Join(dir, string(a.Engine))
			}
			if err := emit(c, a.recipe, f, into); err != nil {
				return err
			}
		}
	}
	return nil
}

// line is an answer in short.
func (a *engineAnswer) line() string {
	r := a.recipe
	switch {
	case r == nil:
		return "refused: " + a.Error
	case r.Refused != nil:
		return "refused: " + r.Refused.Detail
	}
	s := fmt.Sprintf("%s, %d tokens, %s", r.Degrees, r.Capacity.Tokens, r.Cell.Status)
	if r.Tight {
		s += "; tight, safe with " + r.Safer
	}
	return s
}

// printComparison prints the JSON form.
func printComparison(c *cli.Context, answers []engineAnswer) error {
	for i, a := range answers {
		if a.recipe == nil {
			continue
		}
		text, err := a.recipe.Render("json")
		if err != nil {
			return err
		}
		answers[i].Recipe = json.RawMessage(text)
	}
	out, err := json.MarshalIndent(struct {
		Schema  string         `json:"schema"`
		Answers []engineAnswer `json:"answers"`
	}{recipe.Schema, answers}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s\n", out)
	return err
}
