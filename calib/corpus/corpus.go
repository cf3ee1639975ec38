// Package corpus holds the built-in calibration text: prose, dialogues, code,
// tables and proofs in several languages, written for this project, and exercises
// that are made by rule. Nothing of it is in the text that verify judges with
// (package verify/corpus).
package corpus

import (
	_ "embed"
	"strings"
)

// Name of the corpus in reports; it changes when the text does.
const Name = "glmconv-calib-1"

//go:embed corpus.txt
var text string

// Documents returns the pieces in order: one of prose or code, then exercises, and
// so on.
func Documents() []string {
	written := strings.Split(strings.TrimSpace(text), "\n=====\n")
	made := exercises()
	var out []string
	for i, d := range written {
		lo, hi := i*len(made)/len(written), (i+1)*len(made)/len(written)
		out = append(out, d, strings.Join(made[lo:hi], "\n\n"))
	}
	return out
}
