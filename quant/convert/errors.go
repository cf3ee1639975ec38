package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// The kinds of errors, for errors.Is. A [*quant.Error] matches one of them or one
// of package quant; errors of reading a checkpoint are those of packages glm and
// safetensors.
var (
	ErrPart          = errors.New("no such part")           // Options.Index, Count
	ErrDestination   = errors.New("unsuitable destination") // in the source, a file, not empty, or the result of another plan or source
	ErrUnfinished    = errors.New("unfinished conversion")  // the destination holds one of this plan and Resume is not set
	ErrSourceChanged = errors.New("source changed")         // while it was converted, or between two runs of one conversion
	ErrResultChanged = errors.New("result changed")         // something else writes to the destination
	ErrBusy          = errors.New("part is being written")  // by another process; matches safetensors.ErrLocked too
	ErrSpace         = errors.New("not enough space")       // on the destination's disk; nothing was written
	ErrStopped       = errors.New("conversion stopped")     // the context ended; matches its error too
	ErrIO            = safetensors.ErrIO                    // reading or writing failed; matches the system's error too
)

func fail(kind error, advice, format string, args ...any) error {
	return &quant.Error{Kind: kind, Reason: fmt.Sprintf(format, args...), Advice: advice}
}

// explain adds what the user can do.
func (c *converter) explain(err error) error {
	if err == nil {
		return nil
	}
	var nf *quant.NonFiniteError
	var ours *quant.Error
	if errors.As(err, &nf) || errors.As(err, &ours) {
		return err
	}
	kept, begun := c.kept()
	again := "repeat the command"
	if begun {
		again = "resume to go on"
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		percent := int64(0)
		if c.total > 0 {
			percent = c.read.Load() * 100 / c.total
		}
		return &quant.Error{Kind: ErrStopped, Reason: fmt.Sprintf("stopped: %d %% read; %s", percent, kept), Advice: again, Err: err, Resumable: begun}
	}
	var se *safetensors.Error
	if errors.As(err, &se) && se.Kind != safetensors.ErrIO {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fail(quant.ErrSource, "fetch the shard again", "the source was cut short while it was read: %v", err)
	}
	return &quant.Error{Kind: ErrIO, Reason: "conversion failed", Advice: kept + "; once the cause is gone, " + again, Err: err, Resumable: begun}
}

// kept says what is there of the result, and whether anything was begun.
func (c *converter) kept() (what string, begun bool) {
	if _, err := c.fs.Stat(c.state(planFile)); err != nil {
		return "nothing was begun", false
	}
	n := 0
	for i := range c.plan.Files {
		if _, err := c.fs.Stat(filepath.Join(c.dst, c.plan.Files[i].Plan.Name)); err == nil {
			n++
		}
	}
	if n == 0 {
		return "no shard was finished", true
	}
	return fmt.Sprintf("%d of %d shards are finished and kept", n, len(c.plan.Files)), true
}
