package fsx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/glmconv/glmconv/source"
)

// Dir is a folder of which files are read: a checkpoint. Links inside it are
// followed as long as they stay inside. The one exception is a snapshot of the
// Hugging Face cache, a folder …/snapshots/REVISION whose files are links to
// …/blobs: those are read as if they lay in the folder, and nothing else of the
// cache is. A name that a source is mounted under (package source) is a folder
// too: its files are those of the source's listing. Methods may be called
// concurrently.
type Dir struct {
	mount *source.Folder // nil: a folder of a disk
	path  string
	root  *os.Root
	blobs *os.Root // nil: no snapshot of a cache
	real  string   // of the folder, where there are blobs
}

// OpenDir opens a folder, itself wherever links lead to it.
func OpenDir(path string) (*Dir, error) {
	if m := source.Find(path); m != nil {
		return &Dir{path: path, mount: m}, nil
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		if st, serr := os.Stat(path); serr == nil && !st.IsDir() {
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR} // os.OpenRoot does not say so in a way to tell
		}
		return nil, loop(path, err)
	}
	d := &Dir{path: path, root: root}
	if abs, err := filepath.Abs(path); err == nil {
		if real, err := filepath.EvalSymlinks(abs); err == nil && filepath.Base(filepath.Dir(real)) == "snapshots" {
			d.real = real
			d.blobs, _ = os.OpenRoot(d.blobsPath()) // where there are none, this is a folder like any other
		}
	}
	return d, nil
}

func (d *Dir) blobsPath() string { return filepath.Join(filepath.Dir(filepath.Dir(d.real)), "blobs") }

// Close releases the folder.
func (d *Dir) Close() error {
	if d.mount != nil {
		return nil
	}
	if d.blobs != nil {
		_ = d.blobs.Close()
	}
	return d.root.Close()
}

// Stat describes a file of the folder, links followed. The error is an
// [*InputError] for a link to nowhere, in circles or out of the folder.
func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	if d.mount != nil {
		return d.mount.Stat(name)
	}
	_, _, st, err := d.find(name)
	return st, err
}

// Open opens a regular file of the folder for reading.
func (d *Dir) Open(name string) (Input, error) {
	if d.mount != nil {
		return d.mount.Open(name)
	}
	root, inner, st, err := d.find(name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.path, name)
	if !st.Mode().IsRegular() {
		return nil, notRegular(path, st.Mode())
	}
	f, err := root.OpenFile(inner, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	if f, err = stillRegular(f, path); err != nil {
		return nil, err
	}
	return f, nil
}

// ReadFile reads a regular file of the folder with at most limit bytes.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	if d.mount != nil {
		st, err := d.mount.Stat(name)
		if err == nil && st.Size() > limit {
			err = tooLarge(source.Join(d.path, name), limit)
		}
		if err != nil {
			return nil, err
		}
		return d.mount.ReadFile(name, limit)
	}
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, filepath.Join(d.path, name), limit)
}

// ReadDir lists the folder by name.
func (d *Dir) ReadDir() ([]fs.DirEntry, error) {
	if d.mount != nil {
		return d.mount.ReadDir(), nil
	}
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// find returns where a name leads: into the folder, or to a blob.
func (d *Dir) find(name string) (root *os.Root, inner string, st fs.FileInfo, err error) {
	if st, err = d.root.Stat(name); err == nil {
		return d.root, name, st, nil
	}
	path := filepath.Join(d.path, name)
	if errors.Is(err, syscall.ELOOP) {
		return nil, "", nil, loop(path, err)
	}
	target, lerr := d.root.Readlink(name)
	if lerr != nil { // no link, or one on the way
		return nil, "", nil, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil, dangling(path, target)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != syscall.EXDEV && errno != syscall.EINVAL {
		return nil, "", nil, err // the file system says no, not os.Root
	}
	if inner, ok := d.blob(name, target); ok {
		st, err = d.blobs.Stat(inner)
		if err == nil {
			return d.blobs, inner, st, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, "", nil, dangling(path, target)
		}
	}
	return nil, "", nil, outside(path, target)
}

// blob returns the name under blobs that a link of a snapshot has as target.
func (d *Dir) blob(name, target string) (inner string, ok bool) {
	if d.blobs == nil {
		return "", false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(filepath.Join(d.real, name)), target)
	}
	inner, err := filepath.Rel(d.blobsPath(), target)
	return inner, err == nil && filepath.IsLocal(inner)
}

// ReadIn reads one regular file of a folder; see [Dir.ReadFile].
func ReadIn(dir, name string, limit int64) ([]byte, error) {
	d, err := OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadFile(name, limit)
}

// OpenIn opens one regular file of a folder for reading; see [Dir.Open].
func OpenIn(dir, name string) (Input, error) {
	d, err := OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Open(name)
}
