package mtp

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
)

// prepareOut makes the new directory. One that holds anything else than an
// interrupted run of the same remapping is refused.
func (r *Remap) prepareOut(fsys fsx.FS) error {
	how, err := fsx.Overlap(r.Dir, r.Out)
	if err != nil {
		return err
	}
	if how != "" {
		return fail(ErrConflict, r.Out, "choose a directory beside the checkpoint", "the new directory %s the checkpoint", how)
	}
	dst := r.Out
	if err := fsys.MkdirAll(dst); err != nil {
		return err
	}
	entries, err := fsys.ReadDir(dst)
	if err != nil {
		return err
	}
	own := []string{r.File, r.indexName, descriptionName, fsx.StateDir}
	for _, e := range entries {
		if fsx.IsTemp(e.Name()) || slices.Contains(own, e.Name()) {
			continue
		}
		if !r.sameAsSource(fsys, e.Name()) {
			return fail(ErrConflict, filepath.Join(r.Out, e.Name()), "choose an empty or a new directory", "the file is not part of this checkpoint")
		}
	}
	return nil
}

// begin marks the new directory as unfinished, end as finished.
func (r *Remap) begin(fsys fsx.FS) error {
	if err := fsys.MkdirAll(filepath.Join(r.Out, fsx.StateDir)); err != nil {
		return err
	}
	return fsys.SyncDir(r.Out)
}

func (r *Remap) end(fsys fsx.FS) error {
	if err := fsys.Remove(filepath.Join(r.Out, fsx.StateDir)); err != nil {
		return err
	}
	return fsys.SyncDir(r.Out)
}

// sameAsSource tells whether a name in the new directory is what an earlier
// run put there: a link to the source's file, a copy of its size, or a folder.
func (r *Remap) sameAsSource(fsys fsx.FS, rel string) bool {
	from, to := filepath.Join(r.Dir, rel), filepath.Join(r.Out, rel)
	if fsx.Twins(fsys, from, to) {
		return true
	}
	a, errA := fsys.Stat(from)
	b, errB := fsys.Stat(to)
	return errA == nil && errB == nil && a.IsDir() && b.IsDir()
}

// link gives every file of the checkpoint a second name in the new directory,
// except the ones that are written anew.
func (r *Remap) link(ctx context.Context, fsys fsx.FS) error {
	return fsx.LinkTree(ctx, fsys, r.Dir, r.Out, func(rel string, e fs.DirEntry) (bool, error) {
		switch {
		case rel == fsx.StateDir:
			return true, nil
		case e.IsDir():
			return false, nil
		case fsx.IsTemp(rel), rel == r.indexName, rel == manifestName, rel == r.File && len(r.Copies) > 0:
			return true, nil
		case rel == descriptionName && len(r.Copies) > 0:
			if text, err := r.newDescription(); err != nil || text != nil {
				return true, err
			}
		}
		return r.sameAsSource(fsys, rel), nil
	})
}
