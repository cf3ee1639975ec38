package safetensors

import (
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/source"
)

// maxOpenFiles bounds the descriptors of one Checkpoint.
const maxOpenFiles = 48

// Checkpoint is a directory of safetensors files opened as one set of
// tensors. Only headers are held; data is read with pread, so that a file cut
// short while in use is an error and not a signal. All methods may be called
// concurrently.
type Checkpoint struct {
	*folder
	read   atomic.Int64 // bytes of tensors
	closed atomic.Bool
}

// folder is what the handles of a checkpoint share.
type folder struct {
	dir       string
	root      *fsx.Dir
	pool      *pool
	indexName string
	totalSize int64
	hasTotal  bool

	shards   map[string]*shard
	files    []string // names of shards, sorted
	tensors  []Info   // by file, then offset
	byName   map[string]int32
	problems []Problem
	lost     map[string]string // tensor → listed file that cannot be read

	sorted  func() []string // names, made on first use
	err     error           // the first of what Options.AllErrors collected
	handles atomic.Int32    // that are not closed
}

// Share returns another handle of a checkpoint that is open: the same headers and
// files, with a count of its own for BytesRead. Each handle is closed by whoever
// has it, and the files with the last.
func (c *Checkpoint) Share() *Checkpoint {
	c.handles.Add(1)
	return &Checkpoint{folder: c.folder}
}

// Err returns the error that OpenDir would have returned where
// Options.AllErrors made it a Problem, else nil.
func (c *Checkpoint) Err() error { return c.err }

// BytesRead returns how many bytes of tensors were read so far, by all methods;
// it also works after Close.
func (c *Checkpoint) BytesRead() int64 { return c.read.Load() }

// Options changes how a directory is opened.
type Options struct {
	// AllErrors collects what would stop OpenDir as Problems with Err set and
	// goes on with what can be read. Only a directory that cannot be listed or
	// has no safetensors file is still an error.
	AllErrors bool
}

// OpenDir opens a checkpoint: the shards that its index lists, or without an
// index model.safetensors, or without that every *.safetensors file. It reads
// headers only. The error is an [*Error]; findings that need not stop anybody
// are in Problems.
//
// With both index files of the world in one directory, the Hugging Face one is
// used unless the files show that it is stale (see [ProblemSecondIndex]).
func OpenDir(dir string) (*Checkpoint, error) { return OpenDirOptions(dir, Options{}) }

// OpenDirOptions is OpenDir with options.
func OpenDirOptions(dir string, o Options) (*Checkpoint, error) {
	b := &builder{dir: dir, all: o.AllErrors}
	c, err := b.build()
	if err != nil && c != nil {
		_ = c.Close()
		c = nil
	}
	return c, err
}

// FileInfo is one file of a checkpoint.
type FileInfo struct {
	Name     string // base name
	Size     int64  // bytes of the whole file
	Metadata map[string]string
}

// Dir returns the directory as given to OpenDir.
func (c *Checkpoint) Dir() string { return c.dir }

// IndexName returns the base name of the index in use, "" if there is none.
func (c *Checkpoint) IndexName() string { return c.indexName }

// TotalSize returns total_size of the index; false if it has none.
func (c *Checkpoint) TotalSize() (int64, bool) { return c.totalSize, c.hasTotal }

// Problems returns the findings that did not stop OpenDir.
func (c *Checkpoint) Problems() []Problem { return slices.Clone(c.problems) }

// Names returns the names of all tensors, sorted.
func (c *Checkpoint) Names() []string { return slices.Clone(c.sorted()) }

func (c *folder) init() {
	c.sorted = sync.OnceValue(func() []string {
		names := make([]string, len(c.tensors))
		for i, t := range c.tensors {
			names[i] = t.Name
		}
		slices.Sort(names)
		return names
	})
}

// Info returns the tensor of that name. Its Shape must not be changed.
func (c *Checkpoint) Info(name string) (Info, bool) {
	i, ok := c.byName[name]
	if !ok {
		return Info{}, false
	}
	return c.tensors[i], true
}

// Len returns how many tensors there are.
func (c *Checkpoint) Len() int { return len(c.tensors) }

// Tensors returns all tensors ordered by file name, then by offset: the order
// in which reading them is sequential.
func (c *Checkpoint) Tensors() []Info { return slices.Clone(c.tensors) }

// Files returns the files in use, sorted by name.
func (c *Checkpoint) Files() []FileInfo {
	out := make([]FileInfo, len(c.files))
	for i, name := range c.files {
		s := c.shards[name]
		out[i] = FileInfo{Name: name, Size: s.stat.Size(), Metadata: cloneMetadata(s.metadata)}
	}
	return out
}

// Opened returns what the system said about a file of Files when its header
// was read, nil for other names; Stat returns what it says now. A file that is
// the same has the same size, times and inode.
func (c *Checkpoint) Opened(name string) fs.FileInfo {
	if s, ok := c.shards[name]; ok {
		return s.stat
	}
	return nil
}

// Stat is described at Opened. Errors are those of package os.
func (c *Checkpoint) Stat(name string) (fs.FileInfo, error) { return c.root.Stat(name) }

// ReadAt fills p with a tensor's bytes from off on, which counts from the
// start of its data. Fewer bytes than asked for are an error.
func (c *Checkpoint) ReadAt(t Info, off int64, p []byte) error {
	s, ok := c.shards[t.File]
	if !ok {
		return &Error{Kind: ErrNotFound, File: source.Join(c.dir, t.File), Tensor: t.Name, Offset: -1, Reason: "lies in a file that is not open"}
	}
	c.read.Add(int64(len(p)))
	return s.readTensor(t, off, p)
}

// WillNeed lets the system read a part of a tensor ahead, DontNeed lets it drop
// one from the page cache. Both promise nothing.
func (c *Checkpoint) WillNeed(t Info, off, n int64) { c.advise(t, off, n, fsx.WillNeed) }

// DontNeed is the opposite of WillNeed.
func (c *Checkpoint) DontNeed(t Info, off, n int64) {
	c.advise(t, off, n, func(f fsx.Input, off, n int64) { fsx.DontNeed(f, off, n) })
}

func (c *Checkpoint) advise(t Info, off, n int64, how func(f fsx.Input, off, n int64)) {
	s, ok := c.shards[t.File]
	if !ok || off < 0 || n <= 0 {
		return
	}
	if h, err := s.pool.acquire(s.name, s.checkSame); err == nil {
		how(h.file, t.Offset+off, n)
		s.pool.release(h)
	}
}

// ReadRows reads rows lo to hi (exclusive) of a tensor, slices along its first
// dimension, into dst, whose length must be (hi-lo) times RowSize. Errors:
// ErrNotFound, ErrShape (scalar), ErrDType (rows of a sub-byte type that do
// not fill bytes), ErrRange, and those of ReadAt.
func (c *Checkpoint) ReadRows(name string, lo, hi int64, dst []byte) error {
	t, ok := c.Info(name)
	if !ok {
		return &Error{Kind: ErrNotFound, File: c.dir, Tensor: name, Offset: -1, Reason: "is not in this checkpoint"}
	}
	s := c.shards[t.File]
	off, err := rowRange(s.path, t, lo, hi, len(dst))
	if err != nil {
		return err
	}
	c.read.Add(int64(len(dst)))
	return s.readTensor(t, off, dst)
}

// Reader returns a reader of a tensor's data.
func (c *Checkpoint) Reader(t Info) *io.SectionReader {
	return io.NewSectionReader(tensorReader{c, t}, 0, t.Size)
}

type tensorReader struct {
	c *Checkpoint
	t Info
}

// ReadAt implements io.ReaderAt; the SectionReader keeps it inside the tensor.
func (r tensorReader) ReadAt(p []byte, off int64) (int, error) {
	n := max(0, min(int64(len(p)), r.t.Size-off))
	if err := r.c.ReadAt(r.t, off, p[:n]); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// Close closes all files, unless another handle is open (Share). Reading
// afterwards fails.
func (c *Checkpoint) Close() error {
	if c.closed.Swap(true) || c.handles.Add(-1) > 0 {
		return nil
	}
	if c.pool != nil {
		c.pool.close()
	}
	if c.root == nil {
		return nil
	}
	return c.root.Close()
}

// LostTensors returns the tensors that the index names in files that could not
// be read (Options.AllErrors), with those files.
func (c *Checkpoint) LostTensors() map[string]string { return maps.Clone(c.lost) }

// Lost returns the file in which the index puts a tensor whose file could not
// be read (Options.AllErrors), "" if there is none. A name without its last
// parts stands for all tensors below it.
func (c *Checkpoint) Lost(name string) string {
	if f, ok := c.lost[name]; ok {
		return f
	}
	for tensor, f := range c.lost {
		if len(tensor) > len(name) && tensor[len(name)] == '.' && tensor[:len(name)] == name {
			return f
		}
	}
	return ""
}
