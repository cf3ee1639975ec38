package fsx

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Recorder is an FS for tests: it does everything on the system's files and
// notes each change, so that [Recorder.Crash] can lay out what a power cut after
// any number of them may leave. Only what was synced is sure:
//
//   - the bytes of a file up to its last Sync; of what was written later each
//     write is there, lost, or torn between two sectors
//   - the names of a directory up to its last SyncDir; of later changes any may
//     be there without those before it
//
// A new name whose file was never synced may be there with an empty file or
// zeros. It is safe for concurrent use.
type Recorder struct {
	FS

	mu    sync.Mutex
	log   []change
	files int
	base  map[string][]byte // what lay below root at first; nil: a folder
	root  string
}

// change is one step of the log.
type change struct {
	op    string // create, append, write, size, sync, rename, remove, mkdir, link, syncdir
	path  string
	other string // new name
	file  int    // which open file
	off   int64
	data  []byte
}

// Record notes what lies below root now and returns a Recorder over the system's
// files. Changes elsewhere are not noted.
func Record(root string) (*Recorder, error) {
	r := &Recorder{FS: OS, root: root, base: map[string][]byte{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if d.IsDir() {
			r.base[path] = nil
			return nil
		}
		b, err := os.ReadFile(path)
		r.base[path] = append([]byte{}, b...)
		return err
	})
	return r, err
}

// Len returns the number of changes so far.
func (r *Recorder) Len() int { r.mu.Lock(); defer r.mu.Unlock(); return len(r.log) }

// note runs work and notes the change if it succeeds.
func (r *Recorder) note(c change, work func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := work(); err != nil {
		return err
	}
	if strings.HasPrefix(c.path, r.root+string(filepath.Separator)) || c.path == r.root {
		r.log = append(r.log, c)
	}
	return nil
}

func (r *Recorder) open(op, path string, open func(string) (File, error)) (File, error) {
	path = absolute(path)
	var out File
	r.mu.Lock()
	r.files++
	n := r.files
	r.mu.Unlock()
	err := r.note(change{op: op, path: path, file: n}, func() error {
		f, err := open(path)
		if err != nil {
			return err
		}
		st, err := OS.Stat(path)
		if err != nil {
			return err
		}
		out = &recordedFile{File: f, r: r, n: n, path: path, pos: st.Size()}
		return nil
	})
	return out, err
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// Create is noted.
func (r *Recorder) Create(path string) (File, error) { return r.open("create", path, OS.Create) }

// Append is noted.
func (r *Recorder) Append(path string) (File, error) { return r.open("append", path, OS.Append) }

// Rename is noted.
func (r *Recorder) Rename(old, new string) error {
	return r.note(change{op: "rename", path: absolute(old), other: absolute(new)}, func() error { return OS.Rename(old, new) })
}

// Remove is noted.
func (r *Recorder) Remove(path string) error {
	return r.note(change{op: "remove", path: absolute(path)}, func() error { return OS.Remove(path) })
}

// MkdirAll is noted.
func (r *Recorder) MkdirAll(path string) error {
	return r.note(change{op: "mkdir", path: absolute(path)}, func() error { return OS.MkdirAll(path) })
}

// Link is noted.
func (r *Recorder) Link(old, new string) error {
	return r.note(change{op: "link", path: absolute(new), other: absolute(old)}, func() error { return OS.Link(old, new) })
}

// SyncDir is noted.
func (r *Recorder) SyncDir(dir string) error {
	return r.note(change{op: "syncdir", path: absolute(dir)}, func() error { return OS.SyncDir(dir) })
}

// recordedFile notes what happens to an open file.
type recordedFile struct {
	File
	r    *Recorder
	n    int
	path string
	pos  int64
}

func (f *recordedFile) Write(p []byte) (n int, err error) {
	err = f.r.note(change{op: "write", path: f.path, file: f.n, off: f.pos, data: slices.Clone(p)}, func() error {
		n, err = f.File.Write(p)
		return err
	})
	f.pos += int64(n)
	return n, err
}

func (f *recordedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.r.note(change{op: "write", path: f.path, file: f.n, off: off, data: slices.Clone(p)}, func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f *recordedFile) Preallocate(size int64) error {
	return f.r.note(change{op: "size", path: f.path, file: f.n, off: size}, func() error { return f.File.Preallocate(size) })
}

func (f *recordedFile) Sync() error {
	return f.r.note(change{op: "sync", path: f.path, file: f.n}, func() error { return f.File.Sync() })
}

// diskFile is a file in the model of a disk: what is on it for sure, and what may be.
type diskFile struct {
	data    []byte
	pending []change
	dir     bool
}

func (n *diskFile) apply(c change, data []byte) {
	end := c.off + int64(len(data))
	if grow := end - int64(len(n.data)); grow > 0 {
		n.data = append(n.data, make([]byte, grow)...)
	}
	copy(n.data[c.off:], data)
}

// naming is a change of names that no SyncDir has made sure.
type naming struct {
	dir string
	set map[string]*diskFile // nil: the name is gone
}

// model is a disk in the making.
type model struct {
	names   map[string]*diskFile // on the disk for sure
	now     map[string]*diskFile // as processes see them
	pending []naming
	open    map[int]*diskFile
}

// Crash lays out below root, which it empties first, what a power cut after the
// first n changes may leave. Seed 0 keeps everything, as the kill of a process
// does, seed 1 loses all that was not synced, others choose at random.
func (r *Recorder) Crash(n int, seed uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &model{names: map[string]*diskFile{r.root: {dir: true}}, now: map[string]*diskFile{}, open: map[int]*diskFile{}}
	for path, data := range r.base {
		m.names[path] = &diskFile{data: slices.Clone(data), dir: data == nil}
	}
	maps.Copy(m.now, m.names)
	for _, c := range r.log[:n] {
		if err := m.step(c); err != nil {
			return err
		}
	}
	m.cut(seed)
	return m.layOut(r.root)
}

// step replays one change.
func (m *model) step(c change) error {
	switch c.op {
	case "create", "append":
		file := m.now[c.path]
		if c.op == "create" || file == nil {
			file = &diskFile{}
			m.name(c.path, map[string]*diskFile{c.path: file})
		}
		m.open[c.file] = file
	case "write", "size":
		m.open[c.file].pending = append(m.open[c.file].pending, c)
	case "sync":
		file := m.open[c.file]
		for _, w := range file.pending {
			file.apply(w, w.data)
		}
		file.pending = nil
	case "rename":
		m.name(c.path, map[string]*diskFile{c.path: nil, c.other: m.now[c.path]})
	case "link":
		file := m.now[c.other]
		if file == nil { // of a folder beside root
			data, err := os.ReadFile(c.other)
			if err != nil {
				return fmt.Errorf("replay: %w", err)
			}
			file = &diskFile{data: data}
		}
		m.name(c.path, map[string]*diskFile{c.path: file})
	case "remove":
		m.name(c.path, map[string]*diskFile{c.path: nil})
	case "mkdir":
		for dir := c.path; m.now[dir] == nil && len(dir) > 1; dir = filepath.Dir(dir) {
			m.name(dir, map[string]*diskFile{dir: {dir: true}})
		}
	case "syncdir":
		kept := m.pending[:0]
		for _, p := range m.pending {
			if p.dir != c.path {
				kept = append(kept, p)
				continue
			}
			m.settle(p)
		}
		m.pending = kept
	}
	return nil
}

func (m *model) name(path string, set map[string]*diskFile) {
	m.pending = append(m.pending, naming{filepath.Dir(path), set})
	for p, file := range set {
		if m.now[p] = file; file == nil {
			delete(m.now, p)
		}
	}
}

func (m *model) settle(p naming) {
	for path, file := range p.set {
		if m.names[path] = file; file == nil {
			delete(m.names, path)
		}
	}
}

// sector is what a disk writes whole.
const sector = 512

// cut decides what of the unsure is there.
func (m *model) cut(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	stays := func() bool { return seed == 0 || seed > 1 && r.IntN(2) == 0 }
	for _, p := range m.pending {
		if stays() {
			m.settle(p)
		}
	}
	done := map[*diskFile]bool{}
	for _, path := range slices.Sorted(maps.Keys(m.names)) { // in an order, for the same chances
		file := m.names[path]
		if done[file] {
			continue
		}
		done[file] = true
		for _, w := range file.pending {
			switch data := w.data; {
			case stays():
				file.apply(w, data)
			case seed > 1 && len(data) > sector && r.IntN(2) == 0: // torn
				file.apply(w, data[:r.IntN(len(data)/sector+1)*sector])
			}
		}
	}
}

// layOut writes the disk's files below root.
func (m *model) layOut(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
			return err
		}
	}
	made := map[string]bool{root: true}
	for _, path := range slices.Sorted(maps.Keys(m.names)) { // folders before what they hold
		if path == root || !made[filepath.Dir(path)] {
			continue // root is there, or the name of a folder above is lost
		}
		if file := m.names[path]; file.dir {
			err, made[path] = os.Mkdir(path, 0o755), true
		} else {
			err = os.WriteFile(path, file.data, 0o644) //nolint:gosec // as results are
		}
		if err != nil {
			return err
		}
	}
	return nil
}
