package safetensors

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/source"
)

// builder opens a directory step by step.
type builder struct {
	dir string
	all bool // collect errors

	c       *Checkpoint
	names   []string // *.safetensors in the directory, sorted
	folders []string // in it
	has     map[string]bool
	index   *index
	listed  map[string]bool   // files the index lists, or all without one
	fileOf  map[string]string // see indexed
}

// fail returns err, or notes it as a problem and returns nil. That a file cannot
// be read at the moment says nothing about the checkpoint and is no problem of it.
func (b *builder) fail(err error) error {
	if err == nil || !b.all || errors.Is(err, ErrIO) || errors.Is(err, ErrChanged) {
		return err
	}
	p := Problem{Kind: ProblemError, Detail: err.Error(), Err: err}
	var e *Error
	if errors.As(err, &e) {
		p.File, p.Tensor = filepath.Base(e.File), e.Tensor
	}
	b.c.problems = append(b.c.problems, p)
	if b.c.err == nil {
		b.c.err = err
	}
	return nil
}

func (b *builder) note(kind ProblemKind, file, tensor, format string, args ...any) {
	b.c.problems = append(b.c.problems, Problem{Kind: kind, File: file, Tensor: tensor, Detail: fmt.Sprintf(format, args...)})
}

func (b *builder) path(name string) string { return source.Join(b.dir, name) }

func (b *builder) build() (*Checkpoint, error) {
	root, err := fsx.OpenDir(b.dir)
	if err != nil {
		var in *fsx.InputError
		if errors.As(err, &in) {
			return nil, notRead(in)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{Kind: ErrNotFound, File: b.dir, Offset: -1, Reason: "does not exist", Err: fs.ErrNotExist}
		}
		if st, serr := os.Stat(b.dir); serr == nil && !st.IsDir() {
			return nil, &Error{Kind: ErrNotFound, File: b.dir, Offset: -1, Reason: "is not a directory",
				Advice: "give the directory that holds config.json and the shards"}
		}
		return nil, fault(b.dir).io(err)
	}
	b.c = &Checkpoint{folder: &folder{dir: b.dir, root: root, shards: map[string]*shard{}, byName: map[string]int32{}}}
	b.c.handles.Store(1)
	b.c.pool = newPool(maxOpenFiles, b.open)
	b.c.init()
	for _, step := range []func() error{b.list, b.chooseIndex, b.chooseFiles, b.readHeaders, b.addMTP, b.merge, b.compareIndex} {
		if err := step(); err != nil {
			return b.c, err
		}
	}
	b.compareTotal()
	b.sortProblems()
	b.index, b.names, b.has, b.fileOf = nil, nil, nil, nil // the pool keeps b
	return b.c, nil
}

// open opens a file inside the directory; see fsx.Dir for the links that are
// followed.
func (b *builder) open(name string) (fsx.Input, error) {
	f, err := b.c.root.Open(name)
	var in *fsx.InputError
	if errors.As(err, &in) {
		return nil, notRead(in)
	}
	return f, err
}

// notRead puts a file that is not read among the errors of this package.
func notRead(in *fsx.InputError) *Error {
	e := &Error{Kind: ErrPath, File: in.Path, Offset: -1, Reason: in.Reason, Advice: in.Advice}
	switch in.Kind {
	case fs.ErrNotExist:
		e.Kind, e.Err = ErrNotFound, fs.ErrNotExist
	case fsx.ErrTooLarge:
		e.Kind = ErrIndex
	}
	return e
}

// list finds out what is in the directory.
func (b *builder) list() error {
	entries, err := b.c.root.ReadDir()
	if err != nil {
		return fault(b.dir).io(err)
	}
	b.has = map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			b.folders = append(b.folders, name)
			continue
		}
		b.has[name] = true
		switch {
		case fsx.IsTemp(name):
			b.note(ProblemLeftover, name, "", "left over from an interrupted run")
		case strings.HasSuffix(name, ".safetensors") && !strings.HasPrefix(name, "."):
			b.names = append(b.names, name)
		}
	}
	slices.Sort(b.names)
	return nil
}

// chooseIndex reads the index in use.
func (b *builder) chooseIndex() error {
	indexes := []string{}
	for _, name := range []string{IndexName, AscendIndexName} {
		if b.has[name] {
			indexes = append(indexes, name)
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	use := indexes[0]
	if len(indexes) == 2 && b.isAscend() {
		use = AscendIndexName
	}
	for _, other := range indexes {
		if other != use {
			b.note(ProblemSecondIndex, other, "", "is not the index in use, which is %s; engines that read it load other tensors", use)
		}
	}
	idx, err := b.readIndex(use)
	if err != nil {
		return b.fail(err)
	}
	b.index = idx
	b.c.indexName, b.c.totalSize, b.c.hasTotal = use, idx.totalSize, idx.hasTotal
	return nil
}

// isAscend decides between two indexes: the Ascend one holds if its
// description is there, or if shards of the other are gone.
func (b *builder) isAscend() bool {
	if b.has["quant_model_description.json"] {
		return true
	}
	idx, err := b.readIndex(IndexName)
	if err != nil {
		return true
	}
	for _, e := range idx.entries {
		if !b.has[e.File] {
			return true
		}
	}
	return false
}

func (b *builder) readIndex(name string) (*index, error) {
	data, err := b.c.root.ReadFile(name, maxIndexSize)
	var in *fsx.InputError
	if errors.As(err, &in) {
		return nil, notRead(in)
	}
	if err != nil {
		return nil, (&shard{path: b.path(name)}).openError(err)
	}
	return parseIndex(data, b.path(name))
}

// deeper says what to do about a directory without shards, some of whose folders
// may hold them.
func (b *builder) deeper() string {
	found := map[string]int{}
	for _, name := range b.folders {
		inner, err := os.ReadDir(filepath.Join(b.dir, name)) // of an address: there is none
		if err != nil {
			continue
		}
		for _, e := range inner {
			if strings.HasSuffix(e.Name(), ".safetensors") {
				found[name]++
			}
		}
	}
	if len(found) == 0 {
		return "give the directory that holds config.json and the shards"
	}
	names := slices.Sorted(maps.Keys(found))
	if strings.HasPrefix(names[0], "rank_") {
		return strings.Join(names, ", ") + " hold weight files: the job that quantized on several devices was stopped before it put them together; run it again"
	}
	return "weight files are in " + strings.Join(names[:min(3, len(names))], ", ") + ": give that folder, or move them beside config.json"
}

// chooseFiles decides which files belong to the checkpoint.
func (b *builder) chooseFiles() error {
	b.listed = map[string]bool{}
	switch {
	case b.index != nil:
		return b.filesOfIndex()
	case len(b.names) == 0:
		e := fault(b.dir).at(ErrNotFound, "", -1, "has no *.safetensors file")
		e.Advice = b.deeper()
		return e
	case b.has[SingleName]:
		b.c.files = []string{SingleName}
	default:
		b.c.files = slices.Clone(b.names)
	}
	if b.c.indexName == "" && len(b.c.files) > 1 {
		b.note(ProblemNoIndex, "", "", "%d shards without a %s", len(b.c.files), IndexName)
	}
	for _, name := range b.c.files {
		b.listed[name] = true
	}
	return b.numbering()
}

func (b *builder) filesOfIndex() error {
	path := b.path(b.c.indexName)
	judged := map[string]bool{} // file name -> usable
	kept := b.index.entries[:0]
	for _, e := range b.index.entries {
		ok, done := judged[e.File]
		if !done {
			err := checkName(e.File, path, e.Tensor)
			ok = err == nil
			judged[e.File] = ok
			if err := b.fail(err); err != nil {
				return err
			}
		}
		if !ok {
			continue
		}
		kept = append(kept, e)
		if !b.listed[e.File] {
			b.listed[e.File] = true
			b.c.files = append(b.c.files, e.File)
		}
	}
	b.index.entries = kept
	slices.Sort(b.c.files)
	return nil
}

var numbered = lazy.Regexp(`^(.+-)(\d{5})(-of-)(\d{5})(\.safetensors)$`)

// numbering notices shards that are missing from a numbered set without an
// index, as a killed download or converter leaves it.
func (b *builder) numbering() error {
	seen := map[string]bool{}
	for _, name := range b.c.files {
		m := numbered().FindStringSubmatch(name)
		if m == nil || seen[m[1]+m[4]] {
			continue
		}
		seen[m[1]+m[4]] = true
		n, _ := strconv.Atoi(m[4])
		for i := 1; i <= n; i++ {
			want := fmt.Sprintf("%s%05d%s%s%s", m[1], i, m[3], m[4], m[5])
			if b.has[want] {
				continue
			}
			e := fault(b.path(want)).at(ErrNotFound, "", -1, "is missing from a set of %d shards", n)
			e.Advice = "fetch or convert the missing shards"
			if err := b.fail(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// remoteReaders is how many headers of a mounted source are asked for at a time;
// the source has its own limit on requests.
const remoteReaders = 16

// readHeaders opens the chosen files, a few at a time. The error is that of
// the first bad file in name order, whatever the timing.
func (b *builder) readHeaders() error {
	shards := make([]*shard, len(b.c.files))
	errs := make([]error, len(b.c.files))
	var wg sync.WaitGroup
	next := make(chan int)
	readers := min(4, runtime.GOMAXPROCS(0), len(b.c.files))
	if source.Find(b.dir) != nil {
		readers = min(remoteReaders, len(b.c.files)) // which wait for answers, not for a core
	}
	for range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				shards[i], errs[i] = openShard(b.c.pool, b.path(b.c.files[i]), b.c.files[i])
			}
		}()
	}
	for i := range b.c.files {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, s := range shards {
		if err := b.fail(b.explainMissing(b.c.files[i], errs[i])); err != nil {
			return err
		}
		if s != nil {
			b.c.shards[s.name] = s
		}
	}
	b.c.files = slices.DeleteFunc(b.c.files, func(name string) bool { return b.c.shards[name] == nil })
	return nil
}

// explainMissing says that a missing shard is one the index lists.
func (b *builder) explainMissing(name string, err error) error {
	var e *Error
	if b.index == nil || !errors.As(err, &e) || !errors.Is(err, ErrNotFound) {
		return err
	}
	e.Advice = "the index lists this shard; fetch it again"
	return err
}

// sortProblems makes the order independent of the file system's.
func (b *builder) sortProblems() {
	slices.SortStableFunc(b.c.problems, func(x, y Problem) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.File, y.File), cmp.Compare(x.Tensor, y.Tensor))
	})
}
