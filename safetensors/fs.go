package safetensors

import "github.com/glmconv/glmconv/internal/fsx"

// FS is the file system that results are written through. Every function that
// takes one takes nil for the operating system's; another one is of use for
// tests that let writes fail. Paths and errors are those of package os:
//
//	Create(path string) (OutFile, error)     // a new file; an existing name is an error
//	Append(path string) (OutFile, error)     // open at the end, made if missing
//	Rename(old, new string) error            // replaces what had the new name
//	Remove(path string) error                // a file or an empty directory
//	MkdirAll(path string) error
//	Link(old, new string) error              // a second name; an existing one is an error
//	SyncDir(dir string) error                // makes the names in a directory durable
//	Stat(path string) (fs.FileInfo, error)
//	ReadFile(path string) ([]byte, error)
//	ReadDir(dir string) ([]fs.DirEntry, error)
type FS = fsx.FS

// OS is the operating system's file system, which nil stands for: what a wrapper
// that lets writes fail wraps.
var OS = fsx.OS

// OutFile is an open file of an [FS], for writing:
//
//	io.Writer
//	io.WriterAt
//	Preallocate(size int64) error  // reserves bytes, so that a full disk is noticed early
//	WriteBack(off, n int64)        // begins writing a range to the disk; promises nothing
//	Sync() error                   // makes the data durable
//	Close() error
//	Name() string                  // the path it was created under
type OutFile = fsx.File

// ErrLocked says that another process writes the directory. Every function of
// this module that locks one returns an error that matches it; trying again
// later may succeed.
var ErrLocked = fsx.ErrLocked

// InputError is a file that is not read, whatever the operating system would say:
// not a regular one, larger than any real one, or a link that leads out of its
// folder. It is bad input, and trying again does not help. Path, Reason and
// Advice say what and why; the kinds that errors.Is finds are internal, but for
// fs.ErrNotExist.
type InputError = fsx.InputError
