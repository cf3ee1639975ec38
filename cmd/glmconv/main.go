// Command glmconv converts GLM checkpoints to the quantised layouts that vLLM,
// SGLang and vllm-ascend load, gives the MTP layer what it needs, and proves
// the result.
//
//	glmconv inspect DIR                              what is this checkpoint?
//	glmconv plan     --scheme w4a8 SRC               what would become of it?
//	glmconv quantize --scheme w4a8 SRC DST           make it
//	glmconv check DIR                                would the engines load it, and rightly?
//	glmconv mtp-remap DIR                            the adjust_weight step
//	glmconv verify SRC DST                           is the result right?
//	glmconv diff A B                                 what changed?
//	glmconv run DIR --prompt TEXT                    what does it answer?
//	glmconv logits DIR --token-ids FILE --out FILE   its logits, for other engines' sake
//	glmconv demo                                     the whole story on a small built-in model
//
// Flags may stand before or after the paths. Results go to standard output,
// progress and messages to standard error. Exit codes: 0 done, 1 negative
// verdict, 2 wrong usage, 3 undecided, 65 bad input, 74 I/O failed (resumable),
// 75 temporary, 130 interrupted.
package main

import (
	"context"
	"io"
	"os"

	"github.com/glmconv/glmconv/internal/safetext"
)

func main() { os.Exit(supervise(os.Args, os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code. What it prints is
// made safe to show; see package safetext.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out, errs := safetext.NewWriter(stdout), safetext.NewWriter(stderr)
	app := newApp(out, errs)
	switch {
	case len(args) > 1 && args[1] == completeWord:
		_ = printCandidates(stdout, app, args[2:]) // a shell has no use for an error here
		return exitOK
	case len(args) == 2 && args[1] == describeWord:
		return report(errs, describe(stdout, app))
	}
	args = permute(app, spoken(app, args))
	defer closeRemotes(app)
	err := interrupted(ctx, commandOf(app, args), app.RunContext(ctx, args))
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	distrustRemotes(app, err)
	code := report(errs, err)
	_ = errs.Flush()
	return code
}
