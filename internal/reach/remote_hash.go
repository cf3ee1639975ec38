package reach

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // git's own name of a file
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	"github.com/glmconv/glmconv/source"
)

// running is the hash of a file as its blocks come by.
type running struct {
	sum     hash.Hash
	next    int64 // block
	early   map[int64][]byte
	result  string // "" until all blocks were seen
	damaged error

	header header
	top    hash.Hash // of as much of the blocks
	belied bool      // by the blocks
}

// header is what was read of the beginning of a shard by itself, before its blocks,
// which have the published hash.
type header struct {
	bytes int64
	sum   [sha256.Size]byte
}

func newRunning(sum hash.Hash, h header) *running {
	return &running{sum: sum, early: map[int64][]byte{}, header: h, top: sha256.New()}
}

// headed notes what was read of the beginning of a file; the caller holds its lock.
func (f *file) headed(parts ...[]byte) {
	sum, n := sha256.New(), int64(0)
	for _, p := range parts {
		sum.Write(p)
		n += int64(len(p))
	}
	if n >= f.header.bytes {
		f.header = header{n, [sha256.Size]byte(sum.Sum(nil))}
	}
}

// published returns the hash that the listing has of a file, and what computes it:
// its SHA-256, else its name in git; "" and nil where there is neither.
func (f *file) published() (want string, sum hash.Hash) {
	switch {
	case f.SHA256 != "":
		return f.SHA256, sha256.New()
	case f.git != "":
		sum = sha1.New() //nolint:gosec // see the import
		fmt.Fprintf(sum, "blob %d\x00", f.Size)
		return f.git, sum
	}
	return "", nil
}

// hashable refuses a source that Options.Full cannot be kept for: a shard of which
// no hash is published can be read whole, but compared with nothing.
func (s *Source) hashable() error {
	for _, f := range s.files {
		if want, _ := f.published(); want == "" && isShard(f.Name) {
			return &source.Error{Kind: source.ErrAddress, Where: f.where, Reason: "has no published hash: a full check of the source has nothing to compare it with",
				Advice: "leave out --source-check full (size and entity tag are held then), or read the model from a hub"}
		}
	}
	return nil
}

// hashRest reads a shard from its start if it was not hashed as it was read.
func (s *Source) hashRest(ctx context.Context, f *file) error {
	f.mu.Lock()
	known := f.hash != nil && f.hash.result != ""
	f.mu.Unlock()
	if known || !isShard(f.Name) {
		return nil
	}
	want, sum := f.published()
	f.mu.Lock()
	h := newRunning(sum, f.header)
	f.mu.Unlock()
	p := make([]byte, min(blockSize, f.Size))
	for off := int64(0); off < f.Size; off += int64(len(p)) {
		p = p[:min(int64(len(p)), f.Size-off)]
		if !s.cache.read(f, p, off) {
			if err := s.c.fill(ctx, s.g, f, p, off); err != nil {
				return err
			}
		}
		h.add(p)
	}
	err := f.compared(h, want)
	if err != nil {
		s.cache.drop(f)
		return err
	}
	f.mu.Lock()
	f.hash = &running{result: want}
	f.mu.Unlock()
	return nil
}

// Checked is described at source.Folder.Checked.
func (s *Source) Checked(name string) string {
	f := s.byName[name]
	if f == nil {
		return "size+etag"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case isShard(name) && (f.hash == nil || f.hash.result == "" || f.hash.damaged != nil):
	case f.SHA256 != "":
		return "sha256"
	case f.git != "":
		return "git-sha1"
	}
	return "size+etag"
}

// compare checks a whole file against the hash that its listing has.
func (f *file) compare(data []byte) error {
	want, sum := f.published()
	if sum == nil {
		return nil
	}
	sum.Write(data)
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return f.differs(got, want)
	}
	return nil
}

// compared compares what was read of a file with its header and, once all blocks
// were seen, with the published hash.
func (f *file) compared(h *running, want string) error {
	if h.belied {
		return f.unlike("came with two beginnings: the header that was read by itself is not that of its blocks")
	}
	if h.next*blockSize < f.Size {
		return nil
	}
	if h.result = hex.EncodeToString(h.sum.Sum(nil)); h.result != want {
		return f.differs(h.result, want)
	}
	return nil
}

func (f *file) differs(got, want string) error {
	return f.unlike(fmt.Sprintf("has the hash %s, the listing says %s", got, want))
}

func (f *file) unlike(reason string) error {
	return &source.Error{Kind: source.ErrRefused, Where: f.where, Reason: reason,
		Advice: "what arrived is not what was published: repeat the command; if it stays so, tell the owner of the server"}
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
	want, sum := f.published()
	if sum == nil || s.c.o.Unchecked {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.hash
	if h == nil {
		h = newRunning(sum, f.header)
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
	h.damaged = f.compared(h, want)
	return h.damaged
}

// add adds the next block.
func (h *running) add(p []byte) {
	if left := h.header.bytes - h.next*blockSize; left > 0 {
		n := min(left, int64(len(p)))
		h.top.Write(p[:n])
		h.belied = n == left && !bytes.Equal(h.top.Sum(nil), h.header.sum[:])
	}
	h.sum.Write(p)
	h.next++
}
