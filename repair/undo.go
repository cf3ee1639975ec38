package repair

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// Undo puts back what the last repair of dir changed, also one that was
// interrupted. It matches ErrNoUndo if there was none. A nil fsys means the
// operating system's files.
func Undo(dir string, fsys safetensors.FS) error {
	fsys = fsx.Or(fsys)
	unlock, err := fsx.Lock(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer func() { _ = unlock() }()
	r, err := readReceipt(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: no repair was made here", dir, ErrNoUndo)
	}
	if err != nil {
		return err
	}
	return undo(fsys, dir, r)
}

func undo(fsys fsx.FS, dir string, r *receipt) error {
	for _, name := range slices.Concat(r.Former, r.Created) {
		if name != filepath.Base(name) || name == "." || name == ".." {
			return fmt.Errorf("%s: the name %q leaves the folder", filepath.Join(dir, stateDir, receiptName), name)
		}
	}
	for _, name := range r.Former {
		err := fsys.Rename(filepath.Join(dir, stateDir, "old", name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // put back by an undo that was interrupted
			return err
		}
	}
	for _, name := range r.Created {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	return clearState(fsys, dir)
}

// clearState removes the folder of a repair with everything in it, the receipt
// last of the files.
func clearState(fsys fsx.FS, dir string) error {
	state := filepath.Join(dir, stateDir)
	for _, sub := range []string{filepath.Join(state, "old"), filepath.Join(state, "new"), state} {
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

func readReceipt(fsys fsx.FS, dir string) (*receipt, error) {
	raw, err := fsys.ReadFile(filepath.Join(dir, stateDir, receiptName))
	if err != nil {
		return nil, err
	}
	r := &receipt{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, stateDir, receiptName), err)
	}
	return r, nil
}

func writeReceipt(fsys fsx.FS, dir string, r receipt) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return fsx.WriteFile(fsys, filepath.Join(dir, stateDir, receiptName), raw)
}

func manifestFile(name string, text []byte) quant.ManifestFile {
	sum := sha256.Sum256(text)
	return quant.ManifestFile{Name: name, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
}

// manifest returns the manifest with the files that change, nil if there is none.
func (p *Plan) manifest(files []quant.ManifestFile) ([]byte, error) {
	m, err := quant.ReadManifest(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m.Files = slices.DeleteFunc(m.Files, func(f quant.ManifestFile) bool {
		return slices.Contains(p.remove, f.Name) || slices.ContainsFunc(files, func(n quant.ManifestFile) bool { return n.Name == f.Name })
	})
	m.Files = append(m.Files, files...)
	raw, err := json.MarshalIndent(m, "", " ")
	return append(raw, '\n'), err
}
