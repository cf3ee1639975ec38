package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
)

// claim takes the right to write this part of dst: it looks at what is there,
// ties the directory to the plan, and locks the part. done means that the
// result is finished; then there is nothing to unlock.
//
// Parts may run at the same time, also with different counts, so every shard
// has a lock of its own besides (shardLock). The part's lock is there to
// say at once what would otherwise turn out at the first shard.
func (c *converter) claim(ctx context.Context) (unlock func(), done bool, err error) {
	for {
		if done, err := c.prepare(ctx); err != nil || done {
			return nil, done, err
		}
		u, err := fsx.LockOn(c.fs, c.state(fmt.Sprintf("part-%d-of-%d.lock", c.o.Index, c.o.Count)))
		switch {
		case err == nil:
			if err := c.begin(); err != nil {
				return nil, false, errors.Join(err, u())
			}
			return func() { _ = u() }, false, nil
		case errors.Is(err, fsx.ErrLocked):
			return nil, false, c.busy("another process is writing this part of "+c.dst, err)
		case !errors.Is(err, fs.ErrNotExist): // finished and tidied since we looked: look again
			return nil, false, err
		}
	}
}

func (c *converter) busy(reason string, err error) error {
	return &quant.Error{Kind: ErrBusy, Reason: reason, Advice: "wait for it to end, or write another part", Err: err}
}

// prepare checks dst and makes its folders; done means that the result is
// there already.
func (c *converter) prepare(ctx context.Context) (done bool, err error) {
	if err := outside(c.src.Dir(), c.dst); err != nil {
		return false, err
	}
	entries, err := c.fs.ReadDir(c.dst)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return false, fail(ErrDestination, "choose another name", "%s is a file", c.dst)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	if m, err := c.readManifest(); err == nil {
		if m.Fingerprint != c.plan.Fingerprint {
			return false, fail(ErrDestination, "choose another directory, or remove this one",
				"%s holds a finished result of another plan (%s, %s)", c.dst, m.Scheme, m.Format)
		}
		if c.recorded, err = c.alreadyDone(ctx, m); err != nil {
			return false, err
		}
		return true, c.removeState() // which a run that was killed at its very end left
	}
	own := len(entries) == 1 && entries[0].Name() == fsx.StateDir
	if len(entries) > 0 {
		if err := c.mayContinue(own); err != nil {
			return false, err
		}
	}
	top := c.lowest()
	if len(entries) == 0 {
		if err := c.checkFresh(top); err != nil {
			return false, err
		}
	}
	if err := c.makeDirs(top); err != nil {
		return false, err
	}
	return false, c.bindState(ctx)
}

// lowest returns dst, or the lowest folder above it that exists.
func (c *converter) lowest() string {
	top := c.dst
	for {
		if _, err := c.fs.Stat(top); err == nil || filepath.Dir(top) == top {
			return top
		}
		top = filepath.Dir(top)
	}
}

// makeDirs makes dst and its state folder, and their names durable. top is the
// lowest folder that exists.
func (c *converter) makeDirs(top string) error {
	if err := c.fs.MkdirAll(c.state("")); err != nil {
		return err
	}
	for dir := c.dst; ; dir = filepath.Dir(dir) {
		if err := c.fs.SyncDir(dir); err != nil {
			return err
		}
		if dir == top || filepath.Dir(dir) == dir {
			return nil
		}
	}
}

// mayContinue decides whether a directory that is not empty may be used: with
// Resume if it is one of ours, by the other parts of the same job, and if a run
// died before it wrote anything (own: there is nothing but the state folder).
func (c *converter) mayContinue(own bool) error {
	b, err := c.fs.ReadFile(c.state(planFile))
	if errors.Is(err, fs.ErrNotExist) {
		if own {
			return nil
		}
		return fail(ErrDestination, "choose an empty directory", "%s is not empty and holds no unfinished conversion", c.dst)
	} else if err != nil {
		return err
	}
	if err := c.samePlan(b); err != nil {
		return err
	}
	if !c.o.Resume && c.o.Count == 1 {
		return &quant.Error{Kind: ErrUnfinished, Reason: c.dst + " holds an unfinished conversion of this plan",
			Advice: "resume it, or choose another directory", Resumable: true}
	}
	return nil
}

func (c *converter) samePlan(b []byte) error {
	if strings.TrimSpace(string(b)) != c.plan.Fingerprint {
		return fail(ErrDestination, "repeat the conversion with the options and the source it was begun with, or remove the directory",
			"%s holds an unfinished conversion of another plan", c.dst)
	}
	return nil
}

// bindState ties the directory to the plan, one process at a time.
func (c *converter) bindState(ctx context.Context) error {
	unlock, err := c.waitLock(ctx, "plan.lock")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // finished and tidied by another part: the next look tells
		}
		return err
	}
	defer unlock()
	if err := c.bindOrigin(); err != nil {
		return err
	}
	if b, err := c.fs.ReadFile(c.state(planFile)); err == nil {
		return c.samePlan(b)
	}
	err = fsx.WriteFile(c.fs, c.state(planFile), []byte(c.plan.Fingerprint+"\n"))
	if errors.Is(err, fs.ErrExist) { // a bucket: another process was faster, with another plan
		return c.samePlan(nil)
	}
	return err
}

// begin prepares a destination that is no folder.
func (c *converter) begin() error {
	r, ok := c.fs.(fsx.Remote)
	if !ok {
		return nil
	}
	shared, err := r.Begin(c.o.Resume)
	if err == nil && !shared && c.o.Count > 1 {
		err = fail(ErrPart, "convert in one part, or into another store", "%s cannot be written in parts: its store has no conditional writes", c.dst)
	}
	return err
}

// readManifest reads the manifest of dst.
func (c *converter) readManifest() (*quant.Manifest, error) {
	if _, ok := c.fs.(fsx.Remote); !ok {
		return quant.ReadManifest(c.dst)
	}
	b, err := c.fs.ReadFile(filepath.Join(c.dst, quant.ManifestName))
	if err != nil {
		return nil, err
	}
	return quant.ParseManifest(b)
}

// waitLock takes a lock of the state folder that others hold briefly.
func (c *converter) waitLock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		u, err := fsx.LockOn(c.fs, c.state(name))
		if err == nil {
			return func() { _ = u() }, nil
		}
		if !errors.Is(err, fsx.ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// shardLock takes the right to write one shard.
func (c *converter) shardLock(f *quant.File) (unlock func(), err error) {
	u, err := fsx.LockOn(c.fs, c.state(f.Plan.Name+".lock"))
	switch {
	case errors.Is(err, fsx.ErrLocked):
		return nil, c.busy("another process is writing "+f.Plan.Name, err)
	case err != nil:
		return nil, err
	}
	return func() { _ = u() }, nil
}

// finished reports whether the result of this plan is there, manifest and all.
func (c *converter) finished() bool {
	m, err := c.readManifest()
	return err == nil && m.Fingerprint == c.plan.Fingerprint
}

// unlessFinished drops an error that came of another process having finished
// and tidied the result meanwhile.
func (c *converter) unlessFinished(err error) error {
	if errors.Is(err, fs.ErrNotExist) && c.finished() {
		return nil
	}
	return err
}

// removeState removes the folder that only an unfinished result needs. Another
// process that has just come to the same end may be doing so as well.
func (c *converter) removeState() error {
	entries, err := c.fs.ReadDir(c.state(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.fs.Remove(c.state(e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err = c.fs.Remove(c.state(""))
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		return nil // someone has looked in; they tidy up in turn
	} else if err != nil {
		return err
	}
	return c.fs.SyncDir(c.dst)
}
