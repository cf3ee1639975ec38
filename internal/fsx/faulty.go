package fsx

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
)

// ErrPowerCut is what every operation returns after the power was cut.
var ErrPowerCut = errors.New("power cut")

// Faulty is an FS for tests: it counts the operations that change something
// (create, append, preallocate, write, sync, close, rename, remove, mkdir,
// link, syncdir; not stat and reads) and lets one of them go wrong. The zero
// values of the fields mean no fault. It is safe for concurrent use.
type Faulty struct {
	FS FS // what it wraps

	// FailAt is the operation (from 1) that fails with Err, once, or from then
	// on if Sticky. A failing operation has no effect, except that with Short a
	// failing write writes the first half.
	FailAt int
	Err    error
	Sticky bool
	Short  bool

	// CutAt is the operation that the power cut prevents, with all after it.
	CutAt int

	// Match, if set, restricts counting to operations it accepts. The name is
	// the last part of the path.
	Match func(op, name string) bool

	mu     sync.Mutex
	n      int
	hit    bool
	ops    []string
	names  []nameOp
	files  []*faultyFile
	spare  int
	backup []string
}

// nameOp is a change of a directory that SyncDir has not made durable.
type nameOp struct {
	dir  string
	undo func() error
}

// Count returns the number of operations so far.
func (f *Faulty) Count() int { f.mu.Lock(); defer f.mu.Unlock(); return f.n }

// Hit reports whether the fault has happened.
func (f *Faulty) Hit() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.hit }

// Ops returns the operations so far, as "rename model.safetensors".
func (f *Faulty) Ops() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.ops...)
}

// step counts one operation and returns the fault that befalls it.
// f.mu is held.
func (f *Faulty) step(op, path string) error {
	name := filepath.Base(path)
	if f.Match != nil && !f.Match(op, name) {
		if f.hit && f.CutAt > 0 {
			return ErrPowerCut
		}
		return nil
	}
	f.n++
	f.ops = append(f.ops, op+" "+name)
	if f.CutAt > 0 && f.n >= f.CutAt {
		f.hit = true
		return &fs.PathError{Op: op, Path: path, Err: ErrPowerCut}
	}
	if f.FailAt > 0 && (f.n == f.FailAt || f.Sticky && f.n > f.FailAt) {
		f.hit = true
		return &fs.PathError{Op: op, Path: path, Err: f.Err}
	}
	return nil
}

// do runs one counted operation on names under the lock.
func (f *Faulty) do(op, path string, work func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(op, path); err != nil {
		return err
	}
	return work()
}

func (f *Faulty) remember(path string, undo func() error) {
	f.names = append(f.names, nameOp{filepath.Dir(path), undo})
}

// keep gives the file at path a spare name, so that an undo can bring it back.
func (f *Faulty) keep(path string) (string, error) {
	f.spare++
	spare := filepath.Join(filepath.Dir(path), fmt.Sprintf(".faulty-%d%s", f.spare, tempSuffix))
	if err := f.FS.Link(path, spare); err != nil {
		return "", err
	}
	f.backup = append(f.backup, spare)
	return spare, nil
}

// Create counts as one operation.
func (f *Faulty) Create(path string) (File, error) {
	var out File
	err := f.do("create", path, func() error {
		inner, err := f.FS.Create(path)
		if err != nil {
			return err
		}
		f.remember(path, func() error { return f.FS.Remove(path) })
		out = f.track(inner, 0)
		return nil
	})
	return out, err
}

// Append counts as one operation.
func (f *Faulty) Append(path string) (File, error) {
	var out File
	err := f.do("append", path, func() error {
		st, serr := f.FS.Stat(path)
		inner, err := f.FS.Append(path)
		if err != nil {
			return err
		}
		var size int64
		if serr == nil {
			size = st.Size()
		} else {
			f.remember(path, func() error { return f.FS.Remove(path) })
		}
		out = f.track(inner, size)
		return nil
	})
	return out, err
}

// Rename counts as one operation.
func (f *Faulty) Rename(old, new string) error {
	return f.do("rename", new, func() error {
		var spare string
		if _, err := f.FS.Stat(new); err == nil && f.CutAt > 0 {
			if spare, err = f.keep(new); err != nil {
				return err
			}
		}
		if err := f.FS.Rename(old, new); err != nil {
			return err
		}
		f.remember(new, func() error {
			if err := f.FS.Rename(new, old); err != nil || spare == "" {
				return err
			}
			return f.FS.Link(spare, new)
		})
		return nil
	})
}

// Remove counts as one operation.
func (f *Faulty) Remove(path string) error {
	return f.do("remove", path, func() error {
		st, err := f.FS.Stat(path)
		if err != nil || st.IsDir() || f.CutAt == 0 {
			return f.FS.Remove(path)
		}
		spare, err := f.keep(path)
		if err != nil {
			return err
		}
		if err := f.FS.Remove(path); err != nil {
			return err
		}
		f.remember(path, func() error { return f.FS.Link(spare, path) })
		return nil
	})
}

// MkdirAll counts as one operation; a power cut does not undo it.
func (f *Faulty) MkdirAll(path string) error {
	return f.do("mkdir", path, func() error { return f.FS.MkdirAll(path) })
}

// Link counts as one operation.
func (f *Faulty) Link(old, new string) error {
	return f.do("link", new, func() error {
		if err := f.FS.Link(old, new); err != nil {
			return err
		}
		f.remember(new, func() error { return f.FS.Remove(new) })
		return nil
	})
}

// SyncDir counts as one operation.
func (f *Faulty) SyncDir(dir string) error {
	return f.do("syncdir", dir, func() error {
		if err := f.FS.SyncDir(dir); err != nil {
			return err
		}
		dir = filepath.Clean(dir)
		kept := f.names[:0]
		for _, op := range f.names {
			if op.dir != dir {
				kept = append(kept, op)
			}
		}
		f.names = kept
		return nil
	})
}

// Stat is not counted.
func (f *Faulty) Stat(path string) (fs.FileInfo, error) { return f.FS.Stat(path) }

// ReadFile is not counted.
func (f *Faulty) ReadFile(path string) ([]byte, error) { return f.FS.ReadFile(path) }

// ReadDir is not counted. It hides the spare names that Faulty makes.
func (f *Faulty) ReadDir(dir string) ([]fs.DirEntry, error) {
	entries, err := f.FS.ReadDir(dir)
	kept := entries[:0]
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".faulty-") {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// Loss says what a power cut takes. Data is the probability that an unsynced
// write reads as zeros afterwards, Names the one that changes of directories
// that no SyncDir followed are undone: a random number of the last ones of
// each cut, all of them if Names is 1. The same seed takes the same.
type Loss struct {
	Data, Names float64
	Seed        uint64
}

// Crash puts the directories into the state in which a machine might find them
// after the power cut, and closes what is open. It is called once, after the
// work under test has returned.
func (f *Faulty) Crash(loss Loss) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := rand.New(rand.NewPCG(loss.Seed, 1))
	var errs []error
	for _, file := range f.files {
		errs = append(errs, file.lose(r, loss.Data))
	}
	f.files = nil
	// Names are lost from the end: file systems log these changes in order.
	lost := 0
	for lost < len(f.names) && r.Float64() < loss.Names {
		lost++
	}
	for i := len(f.names) - 1; i >= len(f.names)-lost; i-- {
		errs = append(errs, f.names[i].undo())
	}
	f.names = nil
	for _, spare := range f.backup {
		errs = append(errs, f.FS.Remove(spare))
	}
	f.backup = nil
	return errors.Join(errs...)
}
