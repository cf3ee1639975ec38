package mtp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/undo"
	"github.com/glmconv/glmconv/safetensors"
)

// Apply does what was decided. It takes the lock of the directory it writes,
// writes the new file under a temporary name, makes it durable, and then
// replaces the index. Whatever fails, the index names only what is there;
// running again completes.
//
// Errors: [*Error] (ErrFinished, ErrConflict), one that matches
// [safetensors.ErrLocked] if another process writes the directory, those of
// package safetensors for reading and writing shards, and those of package os
// for the rest; ctx.Err() when ctx ends.
func (r *Remap) Apply(ctx context.Context) error {
	dst, fsys := r.Dir, r.fs
	if r.Out != "" {
		if err := r.prepareOut(fsys); err != nil {
			return err
		}
		dst = r.Out
	} else if r.Done {
		return nil
	} else if err := r.refuseFinished(fsys); err != nil {
		return err
	}
	unlock, err := fsx.Lock(dst)
	if err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	defer func() { _ = unlock() }()
	if _, err := fsx.RemoveTemps(fsys, dst); err != nil {
		return err
	}
	if r.Out != "" {
		if err := r.begin(fsys); err != nil {
			return err
		}
		if err := r.link(ctx, fsys); err != nil {
			return err
		}
	} else if done, err := r.decideAgain(); err != nil || done {
		return err
	}
	description, err := r.newDescription()
	if err != nil {
		return err
	}
	// Entries without a tensor are harmless, a tensor without an entry is
	// not: the description goes first.
	if description != nil {
		if err := fsx.WriteFile(fsys, filepath.Join(dst, descriptionName), description); err != nil {
			return err
		}
	}
	if err := r.writeCopies(ctx, fsys, dst); err != nil {
		return err
	}
	text, err := r.newIndex()
	if err != nil {
		return err
	}
	if err := fsx.WriteFile(fsys, filepath.Join(dst, r.indexName), text); err != nil || r.Out == "" {
		return err
	}
	return r.end(fsys)
}

// decideAgain looks at the directory once more now that it is locked: another
// process may have remapped it since, or while NewRemap read, and an index of a
// half-read state would undo to the wrong one.
func (r *Remap) decideAgain() (done bool, err error) {
	now, err := NewRemap(r.Dir, r.opts)
	if err != nil {
		return false, err
	}
	*r = *now
	return r.Done, nil
}

// refuseFinished refuses to change a directory whose manifest says what every
// byte is: its check would fail for ever after.
func (r *Remap) refuseFinished(fsys fsx.FS) error {
	_, err := fsys.Stat(filepath.Join(r.Dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fail(ErrFinished, filepath.Join(r.Dir, manifestName), "remap the source and convert that, or remap into a new directory, which gets no manifest",
		"the directory is a finished conversion; changing it would make its manifest wrong")
}

// newDescription returns the description with a FLOAT entry for every copy,
// or nil if there is none or it has them all.
func (r *Remap) newDescription() ([]byte, error) {
	if r.description == nil {
		return nil, nil
	}
	entries := make([]Entry, len(r.Copies))
	for i, c := range r.Copies {
		entries[i] = Entry{c.Name, "FLOAT"}
	}
	return AddEntries(r.description, entries)
}

// newIndex returns the index that names the copies and what was not listed.
// In place it carries what Undo needs.
func (r *Remap) newIndex() ([]byte, error) {
	x := &index{Metadata: map[string]json.RawMessage{}, WeightMap: map[string]string{}}
	if r.index != nil {
		var err error
		if x, err = parseIndex(filepath.Join(r.Dir, r.indexName), r.index); err != nil {
			return nil, err
		}
	}
	total := r.Bytes
	for _, t := range r.tensors {
		x.WeightMap[t.Name] = t.File
		total += t.Size
	}
	// The receipt lives inside the new index, so that it appears and vanishes with it.
	rec := &undo.Receipt{Texts: map[string]*string{r.indexName: textOf(r.index)}}
	for _, c := range r.Copies {
		x.WeightMap[c.Name] = r.File
	}
	if len(r.Copies) > 0 {
		rec.Created = []string{r.File}
	}
	if r.description != nil {
		rec.Texts[descriptionName] = textOf(r.description)
	}
	x.Metadata["total_size"] = json.RawMessage(strconv.FormatInt(total, 10))
	delete(x.Metadata, undoKey)
	if r.Out == "" {
		packed, err := rec.Pack()
		if err != nil {
			return nil, err
		}
		x.Metadata[undoKey] = packed
	}
	return x.encode()
}

func textOf(raw []byte) *string {
	if raw == nil {
		return nil
	}
	s := string(raw)
	return &s
}

// Undo takes back what Apply did in place: the former index and description
// return byte for byte, then the new file goes. It matches ErrNoUndo if
// nothing was done in dir, ErrChanged if the index was changed since, and
// [safetensors.ErrLocked] if another process writes dir. A nil fsys means the
// operating system's files.
func Undo(dir string, fsys safetensors.FS) error {
	fsys = fsx.Or(fsys)
	if _, err := fsys.Stat(dir); err != nil { // a lock would make a file of this name
		return err
	}
	unlock, err := fsx.Lock(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer func() { _ = unlock() }()
	for _, name := range []string{safetensors.IndexName, safetensors.AscendIndexName} {
		raw, err := fsys.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		x, err := parseIndex(filepath.Join(dir, name), raw)
		if err != nil {
			return err
		}
		packed, ok := x.Metadata[undoKey]
		if !ok {
			continue
		}
		rec, err := undo.Unpack(packed)
		if err != nil {
			return fail(ErrChanged, filepath.Join(dir, name), "", "metadata.%s cannot be read: %v", undoKey, err)
		}
		return takeBack(dir, fsys, name, x, rec)
	}
	return undoOrphan(dir, fsys)
}

// undoOrphan removes a file of ours that no index names: an Apply or an Undo
// was interrupted between file and index.
func undoOrphan(dir string, fsys fsx.FS) error {
	ckpt, err := safetensors.OpenDir(dir)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	for _, p := range ckpt.Problems() {
		if p.Kind != safetensors.ProblemUnlisted {
			continue
		}
		path := filepath.Join(dir, p.File)
		f, err := safetensors.OpenFile(path)
		if err != nil {
			continue
		}
		ours := f.Metadata()[marker] == fileMetadata[marker]
		f.Close()
		if !ours {
			continue
		}
		if err := fsys.Remove(path); err != nil {
			return err
		}
		return fsys.SyncDir(dir)
	}
	return fail(ErrNoUndo, dir, "", "no remapping in place was found")
}

func takeBack(dir string, fsys fsx.FS, name string, now *index, rec *undo.Receipt) error {
	if err := unchanged(dir, name, now, rec); err != nil {
		return err
	}
	if _, err := fsx.RemoveTemps(fsys, dir); err != nil {
		return err
	}
	// The index goes back before the file goes away. After a crash in between
	// the file is one that no index names: undoOrphan and NewRemap know it.
	return rec.Restore(fsys, dir)
}

// unchanged makes sure that no other tool added to the index since: its
// entries would be lost.
func unchanged(dir, name string, now *index, rec *undo.Receipt) error {
	former := map[string]string{}
	if text := rec.Texts[name]; text != nil {
		x, err := parseIndex(name, []byte(*text))
		if err != nil {
			return fail(ErrChanged, filepath.Join(dir, name), "", "the former index in it cannot be read: %v", err)
		}
		former = x.WeightMap
	}
	created := map[string]bool{safetensors.MTPName: true}
	for _, f := range rec.Created {
		created[f] = true
	}
	for tensor, file := range now.WeightMap {
		if was, ok := former[tensor]; ok && was == file || created[file] || rec.Texts[name] == nil {
			continue
		}
		return fail(ErrChanged, filepath.Join(dir, name), "remove the copies from the index by hand, or keep them",
			"it names %s in %s, which came after the remapping", tensor, file)
	}
	return nil
}
