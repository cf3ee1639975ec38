package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/undo"
	"github.com/glmconv/glmconv/quant"
)

// Into makes the plan one for a new folder out: a copy of the folder, of hard
// links where the file system has them. Apply then changes that, and there is
// nothing to undo. It goes on with a folder that it did not finish, and matches
// ErrNotEmpty if anything else is in out, ErrInterrupted if the folder itself is
// in the middle of a repair; a folder within the other is an error.
func (p *Plan) Into(ctx context.Context, out string) error {
	how, err := fsx.Overlap(p.Dir, out)
	if err != nil {
		return err
	}
	if how != "" {
		return fmt.Errorf("%s %s the folder to repair: choose one beside it", out, how)
	}
	if p.interrupted {
		return fmt.Errorf("%s: %w: repeat it there, or take it back, before another folder is made of this one", p.Dir, ErrInterrupted)
	}
	if err := p.claim(out); err != nil {
		return err
	}
	err = fsx.LinkTree(ctx, p.fs, p.Dir, out, func(rel string, e fs.DirEntry) (bool, error) {
		if rel == fsx.StateDir || rel == undo.StateDir || fsx.IsTemp(rel) || rel == ".glmconv.lock" || slices.Contains(p.remove, rel) {
			return true, nil
		}
		return !e.IsDir() && fsx.Twins(p.fs, filepath.Join(p.Dir, rel), filepath.Join(out, rel)), nil
	})
	if err != nil {
		return err
	}
	p.source, p.Dir, p.fresh = p.Dir, out, true
	return nil
}

// claim marks the new folder as unfinished, or clears up in one that was left
// unfinished.
func (p *Plan) claim(out string) error {
	entries, err := p.fs.ReadDir(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) == 0 {
		if err := p.fs.MkdirAll(filepath.Join(out, fsx.StateDir)); err != nil {
			return err
		}
		return p.fs.SyncDir(out)
	}
	state, err := p.fs.ReadDir(filepath.Join(out, fsx.StateDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || len(state) > 0 || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !p.made(out, e) }) {
		return fmt.Errorf("%s: %w", out, ErrNotEmpty)
	}
	unlock, err := fsx.Lock(out)
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	defer func() { _ = unlock() }()
	r, err := undo.Read(p.fs, out)
	if err == nil {
		err = undo.Back(p.fs, out, r)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = undo.Clear(p.fs, out)
	}
	if err != nil {
		return err
	}
	_, err = fsx.RemoveTemps(p.fs, out)
	return err
}

// made tells whether an entry of the new folder is what an earlier run of this
// plan put there.
func (p *Plan) made(out string, e fs.DirEntry) bool {
	name := e.Name()
	switch {
	case fsx.IsTemp(name), name == fsx.StateDir, name == undo.StateDir, name == ".glmconv.lock", p.texts()[name] != nil,
		name == quant.ManifestName, p.index && name == p.indexAs, p.shards[name] != nil:
		return true
	case e.IsDir():
		st, err := p.fs.Stat(filepath.Join(p.Dir, name))
		return err == nil && st.IsDir()
	}
	return fsx.Twins(p.fs, filepath.Join(p.Dir, name), filepath.Join(out, name))
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
	if err := undo.Clear(p.fs, p.Dir); err != nil {
		return err
	}
	if err := p.fs.Remove(filepath.Join(p.Dir, fsx.StateDir)); err != nil {
		return err
	}
	return p.fs.SyncDir(p.Dir)
}
