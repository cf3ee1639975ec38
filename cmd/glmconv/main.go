// Command glmconv converts GLM checkpoints to the quantised layouts that vLLM,
// SGLang and vllm-ascend load, gives the MTP layer what it needs, and proves
// the result.
//
//	glmconv inspect DIR                              what is this checkpoint?
//	glmconv plan     --scheme w4a8 SRC               what would become of it?
//	glmconv quantize --scheme w4a8 SRC DST           make it
//	glmconv check DIR                                would the engines load it, and rightly?
//	glmconv mtp-remap DIR                            the adjust_weight step
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
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, permute(app, args))
	return report(stderr, err)
}
