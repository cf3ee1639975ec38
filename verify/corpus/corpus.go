// Package corpus holds the built-in evaluation text: short pieces of English,
// Chinese, code and chat markup, written for this project and never used for
// calibration.
package corpus

import (
	_ "embed"
	"strings"
)

// Name of the corpus in reports; it changes when the text does.
const Name = "glmconv-eval-1"

//go:embed corpus.txt
var text string

// Documents returns the pieces in order.
func Documents() []string {
	return strings.Split(strings.TrimSpace(text), "\n=====\n")
}
