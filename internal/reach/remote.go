package reach

import (
	"context"
	"crypto/sha1" //nolint:gosec // git's own name of a file
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"crypto/sha256"

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

	mu    sync.Mutex
	head  []byte // the first headSize bytes
	whole []byte // of a small file
	hash  *running
	last  int64 // block read last
	end   int64 // where the last read ended
	reach int   // blocks to read ahead
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

// running is the hash of a file as its blocks come by.
type running struct {
	sum     hash.Hash
	next    int64 // block
	early   map[int64][]byte
	result  string // "" until all blocks were seen
	damaged error
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
	stop    context.CancelFunc
	early   atomic.Int64                    // blocks that wait to be hashed
	recheck func(ctx context.Context) error // of a listing that may change, or nil
}

var _ source.Source = (*Source)(nil)

// Name is described at source.Source.
func (s *Source) Name() string { return s.name }

// Pinned is described at source.Source.
func (s *Source) Pinned() (string, bool) { return s.commit, s.commit != "" }

// Traffic returns what went over the network so far.
func (s *Source) Traffic() Traffic { return s.c.traffic() }

// Settle is called when everything was read and before a result is finished: with
// Options.Full it reads what was not hashed yet, and a listing that could change
// must be the same.
func (s *Source) Settle(ctx context.Context) error {
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

// hashRest reads a shard from its start if it was not hashed as it was read.
func (s *Source) hashRest(ctx context.Context, f *file) error {
	f.mu.Lock()
	known := f.SHA256 == "" || f.hash != nil && f.hash.result != ""
	f.mu.Unlock()
	if known || !isShard(f.Name) {
		return nil
	}
	sum := sha256.New()
	p := make([]byte, min(blockSize, f.Size))
	for off := int64(0); off < f.Size; off += int64(len(p)) {
		p = p[:min(int64(len(p)), f.Size-off)]
		if err := s.c.fill(ctx, s.g, f, p, off); err != nil {
			return err
		}
		sum.Write(p)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return f.differs(got, f.SHA256)
	}
	return nil
}

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
		}
		f.where, f.last = name+"/"+f.Name, -1
		s.byName[f.Name] = f
		s.files = append(s.files, f)
	}
	slices.SortFunc(s.files, func(a, b *file) int { return strings.Compare(a.Name, b.Name) })
	inner, stop := context.WithCancel(ctx)
	s.stop = stop
	s.blocks = newBlocks(inner, c.o.Connections+1, s.fetchBlock)
	return s, nil
}

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
	data := make([]byte, f.Size)
	for try := range 2 {
		if err := s.small(ctx, f, data, 0); err != nil {
			return nil, err
		}
		err := f.compare(data)
		if err == nil {
			break
		}
		if try == 1 {
			return nil, err
		}
		f.located.forget()
	}
	if f.Size <= maxKept {
		f.mu.Lock()
		f.whole = slices.Clone(data)
		f.mu.Unlock()
	}
	return data, nil
}

// compare checks a whole file against the hash that its listing has.
func (f *file) compare(data []byte) error {
	var got, want string
	switch {
	case f.SHA256 != "":
		sum := sha256.Sum256(data)
		got, want = hex.EncodeToString(sum[:]), f.SHA256
	case f.git != "":
		h := sha1.New() //nolint:gosec // see above
		fmt.Fprintf(h, "blob %d\x00", len(data))
		h.Write(data)
		got, want = hex.EncodeToString(h.Sum(nil)), f.git
	}
	if got != want {
		return f.differs(got, want)
	}
	return nil
}

func (f *file) differs(got, want string) error {
	return &source.Error{Kind: source.ErrRefused, Where: f.where, Reason: fmt.Sprintf("has the hash %s, the listing says %s", got, want),
		Advice: "what arrived is not what was published: repeat the command; if it stays so, tell the owner of the server"}
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
	return s.seen(f, index, p)
}

// damaged returns what is wrong with the bytes that came so far.
func (f *file) damaged() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hash == nil {
		return nil
	}
	return f.hash.damaged
}

// seen adds a block to the hash of a file whose hash is known. Blocks that come
// early wait, as many as there are connections; a file of which more come early
// is not hashed as it passes.
func (s *Source) seen(f *file, index int64, p []byte) error {
	if f.SHA256 == "" {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.hash
	if h == nil {
		h = &running{sum: sha256.New(), early: map[int64][]byte{}}
		f.hash = h
	}
	if h.damaged != nil {
		return h.damaged
	}
	if h.result != "" || index < h.next {
		return nil
	}
	if index > h.next {
		if h.early[index] == nil && s.early.Load() < int64(s.c.o.Connections) {
			s.early.Add(1)
			h.early[index] = slices.Clone(p)
		}
		return nil
	}
	h.add(p)
	for early := h.early[h.next]; early != nil; early = h.early[h.next] {
		delete(h.early, h.next)
		s.early.Add(-1)
		h.add(early)
	}
	if h.next*blockSize < f.Size {
		return nil
	}
	h.result = hex.EncodeToString(h.sum.Sum(nil))
	if h.result != f.SHA256 {
		h.damaged = f.differs(h.result, f.SHA256)
	}
	return h.damaged
}

func (h *running) add(p []byte) { h.sum.Write(p); h.next++ }

// opened is an open shard.
type opened struct {
	s *Source
	f *file
}

func (o opened) Entry() source.Entry { return o.f.Entry }
func (o opened) Close() error        { return nil }

// ReadAt reads headers by one small range, data by blocks.
func (o opened) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f := o.f
	var end error
	if left := f.Size - off; off < 0 || left < int64(len(p)) {
		if off < 0 || left <= 0 {
			return 0, io.EOF
		}
		p, end = p[:left], io.EOF
	}
	if err := f.damaged(); err != nil {
		return 0, err
	}
	if off == 0 && len(p) <= 8 || off == 8 { // safetensors: the length of the header, then the header
		n, err := o.s.readHead(ctx, f, p, off)
		if err == nil {
			err = end
		}
		return n, err
	}
	if o.alone(off, len(p)) {
		if err := o.s.small(ctx, f, p, off); err != nil {
			return 0, err
		}
		return len(p), end
	}
	o.ahead(off, int64(len(p)))
	n, err := o.s.blocks.read(ctx, f, p, off)
	if err == nil {
		err = end
	}
	return n, err
}

// maxAlone is the longest read that is asked for by itself.
const maxAlone = 64 << 10

// alone reports whether a read is a small one of a place that nothing else is read
// around: a norm, a bias, one scale. A block for each would be most of the model.
func (o opened) alone(off int64, n int) bool {
	f := o.f
	f.mu.Lock()
	follows := off == f.end
	f.end = off + int64(n)
	f.mu.Unlock()
	return n <= maxAlone && !follows && !o.s.blocks.has(blockKey{f, off / blockSize})
}

// readHead serves the beginning of a file from its first bytes, which are kept,
// and asks for the rest of a long header by another range.
func (s *Source) readHead(ctx context.Context, f *file, p []byte, off int64) (int, error) {
	f.mu.Lock()
	head := f.head
	f.mu.Unlock()
	if head == nil {
		head = make([]byte, min(headSize, f.Size))
		if err := s.small(ctx, f, head, 0); err != nil {
			return 0, err
		}
		if text := pointer(head); text != "" {
			return 0, &source.Error{Kind: source.ErrRefused, Where: f.where, Reason: text, Advice: "the repository was uploaded without Git LFS; ask its owner"}
		}
		f.mu.Lock()
		f.head = head
		f.mu.Unlock()
	}
	n := 0
	if off < int64(len(head)) {
		n = copy(p, head[off:])
	}
	if n == len(p) {
		return n, nil
	}
	if err := s.small(ctx, f, p[n:], off+int64(n)); err != nil {
		return n, err
	}
	return len(p), nil
}

// pointer says what a Git LFS pointer stands for, "" for other content.
func pointer(head []byte) string {
	if len(head) >= 1024 || !strings.HasPrefix(string(head), "version https://git-lfs.github.com/spec/v1") {
		return ""
	}
	size := "?"
	for line := range strings.Lines(string(head)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "size "); ok {
			size = n
		}
	}
	return "is a Git LFS pointer, the file has " + size + " bytes"
}

// ahead widens the window of blocks that are fetched before they are asked for
// while a file is read in order.
func (o opened) ahead(off, n int64) {
	f := o.f
	first, last := off/blockSize, (off+n-1)/blockSize
	f.mu.Lock()
	switch {
	case first == f.last+1 || f.last == -1:
		f.reach = min(2*max(f.reach, 1), o.s.c.o.Connections)
	case first != f.last:
		f.reach = 0
	}
	f.last = last
	reach := f.reach
	f.mu.Unlock()
	for i := first; i <= last+int64(reach) && i*blockSize < f.Size; i++ {
		if i > last && !o.s.blocks.ahead(blockKey{f, i}) {
			return
		}
	}
}

// WillNeed is described at source.File.
func (o opened) WillNeed(off, n int64) {
	for i := off / blockSize; i*blockSize < min(off+n, o.f.Size); i++ {
		if !o.s.blocks.ahead(blockKey{o.f, i}) {
			return
		}
	}
}

// DontNeed is described at source.File.
func (o opened) DontNeed(off, n int64) { o.s.blocks.dontNeed(o.f, off, n) }
