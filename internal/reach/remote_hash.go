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
	f.mu.Lock()
	f.hash = &running{result: f.SHA256}
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
	case isShard(name):
		if f.hash != nil && f.hash.result != "" && f.hash.damaged == nil {
			return "sha256"
		}
	case f.SHA256 != "":
		return "sha256"
	case f.git != "":
		return "git-sha1"
	}
	return "size+etag"
}

// compare checks a whole file against the hash that its listing has.
func (f *file) compare(data []byte) error {
	var got, want string
	switch {
	case f.SHA256 != "":
		sum := sha256.Sum256(data)
		got, want = hex.EncodeToString(sum[:]), f.SHA256
	case f.git != "":
		h := sha1.New() //nolint:gosec // see the import
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
