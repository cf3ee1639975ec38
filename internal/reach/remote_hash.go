package reach

import (
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
	p := make([]byte, min(blockSize, f.Size))
	for off := int64(0); off < f.Size; off += int64(len(p)) {
		p = p[:min(int64(len(p)), f.Size-off)]
		if !s.cache.read(f, p, off) {
			if err := s.c.fill(ctx, s.g, f, p, off); err != nil {
				return err
			}
		}
		sum.Write(p)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		s.cache.drop(f)
		return f.differs(got, want)
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

func (f *file) differs(got, want string) error {
	return &source.Error{Kind: source.ErrRefused, Where: f.where, Reason: fmt.Sprintf("has the hash %s, the listing says %s", got, want),
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
		h = &running{sum: sum, early: map[int64][]byte{}}
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
	if h.result != want {
		h.damaged = f.differs(h.result, want)
	}
	return h.damaged
}

func (h *running) add(p []byte) { h.sum.Write(p); h.next++ }
