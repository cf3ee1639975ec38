package fsx

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FS is what glmconv needs of a file system to write a result. Paths are
// those of package os. Errors are those of package os as well (*fs.PathError,
// *os.LinkError), so errors.Is(err, fs.ErrNotExist) and the like work.
type FS interface {
	// Create makes a new file for writing and fails if the name exists.
	Create(path string) (File, error)
	// Append opens a file for writing at its present end, making it if it is
	// missing. One process appends at a time.
	Append(path string) (File, error)
	// Rename gives a file a new name, replacing the file that had it.
	Rename(old, new string) error
	// Remove deletes a file or an empty directory.
	Remove(path string) error
	// MkdirAll makes a directory and its parents; existing ones are fine.
	MkdirAll(path string) error
	// Link gives a file a second name and fails if that exists.
	Link(old, new string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Stat and ReadDir are as in package os, ReadFile is ReadRegular up to MaxText.
	Stat(path string) (fs.FileInfo, error)
	ReadFile(path string) ([]byte, error)
	ReadDir(dir string) ([]fs.DirEntry, error)
}

// File is an open file of an [FS], for writing.
type File interface {
	io.Writer
	io.WriterAt
	// Preallocate reserves size bytes and gives the file that length, so that
	// a full disk is noticed before the work. It never shortens the file.
	Preallocate(size int64) error
	// WriteBack asks the system to begin writing a range to the disk, so that
	// Sync has little left to do. It promises nothing.
	WriteBack(off, n int64)
	// Sync makes the data durable.
	Sync() error
	Close() error
	// Name returns the path the file was created under.
	Name() string
}

// OS is the real file system.
var OS FS = osFS{}

// Or returns fsys, or OS if it is nil: public functions take nil for the
// operating system's files.
func Or(fsys FS) FS {
	if fsys == nil {
		return OS
	}
	return fsys
}

type osFS struct{}

func (osFS) Create(path string) (File, error) {
	mode, replaces := fs.FileMode(0o644), false
	if IsTemp(path) { // what is written anew keeps who may read it
		if st, err := os.Lstat(FinalName(path)); err == nil && st.Mode().IsRegular() {
			mode, replaces = st.Mode().Perm(), true
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	if replaces {
		if err := f.Chmod(mode); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(path))
		}
	}
	return osFile{f}, nil
}

func (osFS) Append(path string) (File, error) {
	// Not O_APPEND: package os refuses WriteAt on such files.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		_ = f.Close()
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(old, new string) error              { return os.Rename(old, new) }
func (osFS) Remove(path string) error                  { return os.Remove(path) }
func (osFS) MkdirAll(path string) error                { return os.MkdirAll(path, 0o755) }
func (osFS) Link(old, new string) error                { return os.Link(old, new) }
func (osFS) Stat(path string) (fs.FileInfo, error)     { return os.Stat(path) }
func (osFS) ReadFile(path string) ([]byte, error)      { return ReadRegular(path, MaxText) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }
func (osFS) SyncDir(dir string) error                  { return syncDir(dir) }

type osFile struct{ *os.File }

func (f osFile) Preallocate(size int64) error {
	if size <= 0 {
		return nil
	}
	if err := preallocate(f.File, size); err != nil {
		return &fs.PathError{Op: "preallocate", Path: f.Name(), Err: err}
	}
	return nil
}

func (f osFile) WriteBack(off, n int64) { writeBack(f.File, off, n) }

// Sync is fsync, except that a file system without it is not an error: there
// is nothing better to do on it.
func (f osFile) Sync() error {
	if err := f.File.Sync(); err != nil && !syncUnsupported(err) {
		return err
	}
	return nil
}

// extend gives f the length size unless it is longer already.
func extend(f *os.File, size int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() >= size {
		return nil
	}
	return f.Truncate(size)
}

const tempSuffix = ".glmconv-tmp"

// StateDir is the folder that marks a directory as unfinished and says what of it
// is done.
const StateDir = ".glmconv"

// TempName returns the name under which path is written until it is complete:
// ".<name>.glmconv-tmp" in the same directory.
func TempName(path string) string {
	dir, name := filepath.Split(path)
	return dir + "." + name + tempSuffix
}

// FinalName is the path that TempName made path of.
func FinalName(path string) string {
	dir, name := filepath.Split(path)
	return dir + strings.TrimSuffix(strings.TrimPrefix(name, "."), tempSuffix)
}

// IsTemp reports whether the last part of path is a name that TempName makes.
// Such a file is left over from an interrupted run and may be removed by
// whoever holds the directory's lock.
func IsTemp(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, tempSuffix) && len(name) > len(tempSuffix)+1
}

// CreateTemp creates TempName(path), first removing what an interrupted run
// may have left there. The caller holds the directory's lock.
func CreateTemp(fsys FS, path string) (File, error) {
	name := TempName(path)
	f, err := fsys.Create(name)
	if errors.Is(err, fs.ErrExist) {
		if err := fsys.Remove(name); err != nil {
			return nil, err
		}
		f, err = fsys.Create(name)
	}
	return f, err
}

// Commit makes a temporary file durable under its final name: sync, close,
// rename, sync the directory. On failure before the rename the temporary file
// is removed; f is closed in every case. If only the last step fails the file
// stands complete under its name, though a power cut may still undo that.
func Commit(fsys FS, f File, path string) error {
	if err := f.Sync(); err != nil {
		return errors.Join(err, Discard(fsys, f))
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, fsys.Remove(f.Name()))
	}
	if err := fsys.Rename(f.Name(), path); err != nil {
		return errors.Join(err, fsys.Remove(f.Name()))
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// Discard closes a temporary file and removes it.
func Discard(fsys FS, f File) error {
	cerr := f.Close()
	return errors.Join(cerr, fsys.Remove(f.Name()))
}

// WriteFile writes data to path so that at every moment path holds either what
// it held before or all of data, also after a power cut.
func WriteFile(fsys FS, path string, data []byte) error {
	f, err := CreateTemp(fsys, path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, Discard(fsys, f))
	}
	return Commit(fsys, f, path)
}

// RemoveTemps deletes the temporary files in dir (not below it) and returns
// their names. The caller holds the directory's lock.
func RemoveTemps(fsys FS, dir string) ([]string, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, e := range entries {
		if e.IsDir() || !IsTemp(e.Name()) {
			continue
		}
		if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil {
			return removed, err
		}
		removed = append(removed, e.Name())
	}
	return removed, nil
}
