// Package lazy makes what a package needs for its work when it is first used
// and not before main, where every command waits for it.
//
// [Regexp] is for the patterns of a package.
package lazy

import (
	"regexp"
	"sync"
)

// Regexp returns a function that compiles a pattern when it is first called and
// has it from then on. It may be called by several goroutines. A pattern that
// does not compile panics at that call.
func Regexp(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
