package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

// grace is how long a command may take to stop. Whatever it is in the middle of
// then (a file that is hashed, a picture that is decoded, a disk that syncs) is
// left as a power cut would leave it, which every writer is made for.
const grace = 700 * time.Millisecond

// patience is how much longer the running command may take to stop, in
// nanoseconds: a server's requests are somebody's.
var patience atomic.Int64

// supervise runs a command line until it ends or the user ends it: the first
// signal asks, and a second one, or the end of the grace, does not.
func supervise(args []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan int, 1)
	go func() { done <- run(ctx, args, stdout, stderr) }()
	select {
	case code := <-done:
		return code
	case <-signals:
		cancel()
	}
	select {
	case code := <-done:
		return code
	case <-signals:
	case <-time.After(grace + time.Duration(patience.Load())):
	}
	app := newApp(stdout, stderr)
	return report(stderr, interrupted(ctx, commandOf(app, permute(app, args)), ctx.Err()))
}

// interrupted puts what a command came to after a signal in its place: whatever
// failed, failed because of the signal. A verdict that was printed stands.
func interrupted(ctx context.Context, command string, err error) error {
	var ee *exitError
	if err == nil || ctx.Err() == nil || errors.As(err, &ee) || codeOf(err) == exitInterrupted && hintOf(err) != "" {
		return err
	}
	return &exitError{code: exitInterrupted, err: &hinted{fmt.Errorf("%s was interrupted", command), afterInterrupt[command]}}
}

// afterInterrupt says how to go on.
var afterInterrupt = map[string]string{
	"quantize":  "what was complete is kept; the same command with --resume goes on",
	"mtp-remap": "the same command completes what was begun; --undo takes it back",
	"verify":    "the same command goes on from the last layer that it noted, if it noted one",
	"demo":      "the same command begins anew",
	"logits":    "nothing was written under the name of --out; the same command begins anew",
	"run":       "the same command with the same --seed gives the same text",
	"check":     "nothing was changed; the same command begins anew",
	"diff":      "nothing was changed; the same command begins anew",
}

// commandOf returns the name of the command on a line, or the program's.
func commandOf(app *cli.App, args []string) string {
	for _, a := range args[min(1, len(args)):] {
		if _, _, isFlag := splitFlag(a); isFlag {
			continue
		}
		if cmd := app.Command(a); cmd != nil {
			return cmd.Name
		}
	}
	return app.Name
}
