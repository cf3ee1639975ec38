package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
)

// Into makes the plan one for a new folder out: a copy of the folder, of hard
// links where the file system has them. Apply then changes that, and there is
// nothing to undo. It matches ErrNotEmpty if something is in out; a folder
// within the other is an error.
func (p *Plan) Into(ctx context.Context, out string) error {
	how, err := fsx.Overlap(p.Dir, out)
	if err != nil {
		return err
	}
	if how != "" {
		return fmt.Errorf("%s %s the folder to repair: choose one beside it", out, how)
	}
	if entries, err := p.fs.ReadDir(out); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: %w", out, ErrNotEmpty)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.fs.MkdirAll(filepath.Join(out, fsx.StateDir)); err != nil {
		return err
	}
	if err := p.fs.SyncDir(out); err != nil {
		return err
	}
	err = fsx.LinkTree(ctx, p.fs, p.Dir, out, func(rel string, e fs.DirEntry) (bool, error) {
		return rel == fsx.StateDir || rel == stateDir || fsx.IsTemp(rel) || rel == ".glmconv.lock" || slices.Contains(p.remove, rel), nil
	})
	if err != nil {
		return err
	}
	p.source, p.Dir, p.fresh = p.Dir, out, true
	return nil
}

// from is the folder that is read.
func (p *Plan) from() string {
	if p.fresh {
		return p.source
	}
	return p.Dir
}

// finish takes the marks of an unfinished folder away.
func (p *Plan) finish() error {
	if err := clearState(p.fs, p.Dir); err != nil {
		return err
	}
	if err := p.fs.Remove(filepath.Join(p.Dir, fsx.StateDir)); err != nil {
		return err
	}
	return p.fs.SyncDir(p.Dir)
}
