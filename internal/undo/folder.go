package undo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/fsx"
)

// StateDir is the folder within the one that is changed: the receipt, in old the
// former files, and in new, while the change goes on, the new ones.
const StateDir = ".glmconv-repair"

const receiptName = "receipt.json"

// Path is a path below the state folder of dir.
func Path(dir string, parts ...string) string {
	return filepath.Join(append([]string{dir, StateDir}, parts...)...)
}

// Read reads the receipt in the state folder; the error matches fs.ErrNotExist
// where there is none.
func Read(fsys fsx.FS, dir string) (*Receipt, error) {
	raw, err := fsys.ReadFile(Path(dir, receiptName))
	if err != nil {
		return nil, err
	}
	r := &Receipt{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s: %w", Path(dir, receiptName), err)
	}
	return r, nil
}

// Interrupted reports whether a change of dir was begun and not completed.
func Interrupted(fsys fsx.FS, dir string) (bool, error) {
	r, err := Read(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && !r.Done, err
}

// Write writes the receipt into the state folder.
func Write(fsys fsx.FS, dir string, r *Receipt) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return fsx.WriteFile(fsys, Path(dir, receiptName), raw)
}

// Back takes the change back that the state folder has a receipt of. From its
// first step on the receipt says that the change is not complete, so that a
// further one of either direction begins by taking it back.
func Back(fsys fsx.FS, dir string, r *Receipt) error {
	if r.Done {
		r.Done = false
		if err := Write(fsys, dir, r); err != nil {
			return err
		}
	}
	if err := r.Restore(fsys, dir); err != nil {
		return err
	}
	return Clear(fsys, dir)
}

// Clear removes the state folder with everything in it, the receipt last of the
// files.
func Clear(fsys fsx.FS, dir string) error {
	for _, sub := range []string{Path(dir, "old"), Path(dir, "new"), Path(dir)} {
		entries, err := fsys.ReadDir(sub)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := fsys.Remove(filepath.Join(sub, e.Name())); err != nil {
				return err
			}
		}
		if err := fsys.Remove(sub); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}
