package reach

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/glmconv/glmconv/internal/lazy"
	"github.com/glmconv/glmconv/source"
)

const (
	headSize  = 32 << 10  // read of each shard at once: its header
	maxSmall  = 64 << 20  // files up to this size are read whole unless they are shards
	maxKept   = 8 << 20   // and up to this size kept
	maxListed = 100_000   // files of a source
	maxPage   = 64 << 20  // bytes of a page of a listing
	maxIndex  = 256 << 20 // bytes of any other file that is read whole
)

// file is a file of a listing.
type file struct {
	source.Entry
	where   string // address, for messages
	path    string // inside the repository
	git     string // SHA-1 as git names it, of small files
	etag    string // for If-Match
	located *located

	mu     sync.Mutex
	head   []byte // the first headSize bytes
	header header
	whole  []byte // of a small file
	hash   *running
	last   int64 // block read last
	end    int64 // where the last read ended
	reach  int   // blocks to read ahead
}

// host is where the file's bytes come from, "" before that is known.
func (f *file) host() string {
	if f.located == nil {
		return ""
	}
	f.located.mu.Lock()
	defer f.located.mu.Unlock()
	if f.located.url == nil {
		return ""
	}
	return f.located.url.Host
}

// Source is a remote source. See [source.Source] for its methods.
type Source struct {
	name    string
	commit  string // "" if there is none
	files   []*file
	byName  map[string]*file
	c       *client
	g       getter
	blocks  *blocks
	cache   *cache // nil: none
	stop    context.CancelFunc
	early   atomic.Int64                    // blocks that wait to be hashed
	weights atomic.Bool                     // more than headers was read
	recheck func(ctx context.Context) error // of a listing that may change, or nil
}

var _ source.Source = (*Source)(nil)

// Name is described at source.Source.
func (s *Source) Name() string { return s.name }

// Pinned is described at source.Source.
func (s *Source) Pinned() (string, bool) { return s.commit, s.commit != "" }

// Traffic returns what went over the network so far.
func (s *Source) Traffic() Traffic { return s.c.traffic() }

// Settle is called when everything was read and before a result is finished: no
// shard may be known to be damaged, with
// Options.Full it reads what was not hashed yet, and a listing that could change
// must be the same.
func (s *Source) Settle(ctx context.Context) error {
	for _, f := range s.files { // of a block that was fetched ahead nobody has heard
		if err := f.damaged(); err != nil {
			return err
		}
	}
	if s.c.o.Full {
		for _, f := range s.files {
			if err := s.hashRest(ctx, f); err != nil {
				return err
			}
		}
	}
	if s.recheck != nil {
		return s.recheck(ctx)
	}
	return nil
}

// ReadWeights reports whether more was read of shards than their headers.
func (s *Source) ReadWeights() bool { return s.weights.Load() }

// Close ends all requests.
func (s *Source) Close() error {
	s.stop()
	s.c.http.CloseIdleConnections()
	return nil
}

// newSource makes a source of a checked listing.
func newSource(ctx context.Context, c *client, g getter, name string, files []*file) (*Source, error) {
	s := &Source{name: name, c: c, g: g, byName: map[string]*file{}}
	if len(files) > maxListed {
		return nil, &source.Error{Kind: source.ErrRefused, Where: name, Reason: "lists too many files"}
	}
	for _, f := range files {
		switch {
		case f.Size < 0:
			return nil, &source.Error{Kind: source.ErrRefused, Where: name, Reason: fmt.Sprintf("lists %q with a size of %d", f.Name, f.Size)}
		case s.byName[f.Name] != nil:
			return nil, &source.Error{Kind: source.ErrRefused, Where: name, Reason: fmt.Sprintf("lists %q twice", f.Name)}
		case f.SHA256 != "" && !isSHA256().MatchString(f.SHA256): // names files of the cache
			return nil, &source.Error{Kind: source.ErrRefused, Where: name, Reason: fmt.Sprintf("lists %q with the SHA-256 %.80q", f.Name, f.SHA256)}
		}
		f.where, f.last = name+"/"+f.Name, -1
		s.byName[f.Name] = f
		s.files = append(s.files, f)
	}
	slices.SortFunc(s.files, func(a, b *file) int { return strings.Compare(a.Name, b.Name) })
	if c.o.Cache != "" {
		s.cache = &cache{dir: c.o.Cache, warn: c.o.Warn, size: ceiling{most: c.o.CacheSize}}
	}
	if err := s.cache.fits(s.files); err != nil {
		return nil, err
	}
	inner, stop := context.WithCancel(ctx)
	s.stop = stop
	s.blocks = newBlocks(inner, c.o.Connections+1, s.fetchBlock)
	return s, nil
}

var isSHA256 = lazy.Regexp(`^[0-9a-f]{64}$`)

// flat reports whether a name of a listing is that of a file in the folder
// itself, and one that may be written elsewhere.
func flat(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\\\x00") && name != ".cache" && !strings.HasPrefix(name, ".git")
}

// List is described at source.Source.
func (s *Source) List(context.Context) ([]source.Entry, error) {
	out := make([]source.Entry, len(s.files))
	for i, f := range s.files {
		out[i] = f.Entry
	}
	return out, nil
}

func isShard(name string) bool { return strings.HasSuffix(name, ".safetensors") }

// Open is described at source.Source.
func (s *Source) Open(ctx context.Context, name string) (source.File, error) {
	f := s.byName[name]
	if f == nil {
		return nil, &source.Error{Kind: source.ErrMissing, Where: s.name + "/" + name, Reason: "is not in the listing"}
	}
	if !isShard(name) && f.Size <= maxSmall {
		data, err := s.ReadSmall(ctx, name, maxSmall)
		if err != nil {
			return nil, err
		}
		return source.Bytes(f.Entry, data), nil
	}
	return opened{s, f}, nil
}

// ReadSmall is described at source.Source. The file is compared with its hash
// where the listing has one.
func (s *Source) ReadSmall(ctx context.Context, name string, limit int64) ([]byte, error) {
	f := s.byName[name]
	switch {
	case f == nil:
		return nil, &source.Error{Kind: source.ErrMissing, Where: s.name + "/" + name, Reason: "is not in the listing"}
	case f.Size > min(limit, maxIndex):
		return nil, &source.Error{Kind: source.ErrRefused, Where: f.where, Reason: fmt.Sprintf("has %d bytes, more than are read of such a file", f.Size)}
	case f.Size == 0:
		return nil, nil
	}
	f.mu.Lock()
	kept := f.whole
	f.mu.Unlock()
	if kept != nil {
		return slices.Clone(kept), nil
	}
	data := s.cache.keptSmall(f, "file", f.Size)
	if data == nil || f.compare(data) != nil {
		var err error
		if data, err = s.fetchSmall(ctx, f); err != nil {
			return nil, err
		}
		s.cache.keepSmall(f, "file", data)
	}
	if f.Size <= maxKept {
		f.mu.Lock()
		f.whole = slices.Clone(data)
		f.mu.Unlock()
	}
	return data, nil
}

// fetchSmall reads a whole file, once more if it is not what was listed.
func (s *Source) fetchSmall(ctx context.Context, f *file) ([]byte, error) {
	data := make([]byte, f.Size)
	for try := 0; ; try++ {
		if err := s.small(ctx, f, data, 0); err != nil {
			return nil, err
		}
		err := f.compare(data)
		if err == nil {
			return data, nil
		}
		if try == 1 {
			return nil, err
		}
		f.located.forget()
	}
}

// small reads a range with a token for small requests.
func (s *Source) small(ctx context.Context, f *file, p []byte, off int64) error {
	select {
	case s.c.small <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.c.small }()
	return s.c.fill(ctx, s.g, f, p, off)
}

// fetchBlock reads one block and adds it to the file's hash.
func (s *Source) fetchBlock(ctx context.Context, f *file, index int64, p []byte) error {
	if s.cache.read(f, p, index*blockSize) {
		return s.held(f, index, p)
	}
	select {
	case s.c.data <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := s.c.fill(ctx, s.g, f, p, index*blockSize)
	<-s.c.data
	if err != nil {
		return err
	}
	s.cache.write(f, index, p)
	return s.held(f, index, p)
}

// held adds a block to the file's hash. What does not have the published one
// stays in no cache.
func (s *Source) held(f *file, index int64, p []byte) error {
	err := s.seen(f, index, p)
	if err != nil {
		s.cache.drop(f)
	}
	return err
}
