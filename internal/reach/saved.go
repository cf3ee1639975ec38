package reach

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/glmconv/glmconv/source"
)

// Saved is what a run has read of a source to make a plan: the listing, headers
// and small files. [OpenSaved] begins with it, so that parts of one conversion on
// many machines need not ask for it again.
type Saved struct {
	Name   string      `json:"name"`             // with the revision
	Commit string      `json:"commit,omitempty"` // "" if there is none
	Files  []SavedFile `json:"files"`
}

// SavedFile is a file of a saved listing.
type SavedFile struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256,omitempty"`
	Version string `json:"version,omitempty"`
	Path    string `json:"path,omitempty"` // inside the repository
	Git     string `json:"git,omitempty"`  // SHA-1 as git names it
	Head    []byte `json:"head,omitempty"` // of a shard: length and header
	Whole   []byte `json:"whole,omitempty"`
}

// Save returns what was read of a source beside its weights.
func (s *Source) Save(ctx context.Context) (*Saved, error) {
	out := &Saved{Name: s.name, Commit: s.commit}
	for _, f := range s.files {
		f.mu.Lock()
		x := SavedFile{Name: f.Name, Size: f.Size, SHA256: f.SHA256, Version: f.Version, Path: f.path, Git: f.git, Head: f.head, Whole: f.whole}
		f.mu.Unlock()
		if x.Head != nil {
			var err error
			if x.Head, err = s.wholeHead(ctx, f, x.Head); err != nil {
				return nil, err
			}
		}
		out.Files = append(out.Files, x)
	}
	return out, nil
}

// Forget lets go of the headers and the index that were read: of the largest models
// 15 MB, which nobody asks for again once a checkpoint is open. What is asked for
// all the same is fetched again.
func (s *Source) Forget() {
	for _, f := range s.files {
		f.mu.Lock()
		if f.head = nil; f.Size > maxRemembered {
			f.whole = nil
		}
		f.mu.Unlock()
	}
}

// maxRemembered is the longest small file that Forget leaves.
const maxRemembered = 1 << 20

// wholeHead cuts the first bytes of a shard to its header, or reads the rest of a
// longer one.
func (s *Source) wholeHead(ctx context.Context, f *file, head []byte) ([]byte, error) {
	if len(head) < 8 {
		return nil, nil
	}
	n := binary.LittleEndian.Uint64(head)
	if n > uint64(min(f.Size, maxIndex))-8 {
		return nil, nil // damaged: whoever opens it says so
	}
	n += 8
	if n <= uint64(len(head)) {
		return head[:n], nil
	}
	all := make([]byte, n)
	return all, s.small(ctx, f, all[copy(all, head):], int64(len(head)))
}

// OpenSaved opens an address as Open does and takes what was saved of it. A hub
// is asked for nothing: the commit is the saved one. Others have no commits; their
// listing is read and must be the saved one. What does not fit is refused.
func OpenSaved(ctx context.Context, text string, o Options, saved *Saved) (*Source, error) {
	o.saved = saved
	s, err := Open(ctx, text, o)
	if err != nil {
		return nil, err
	}
	if err := s.take(saved); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// take fills in what was saved.
func (s *Source) take(saved *Saved) error {
	misfit := func(format string, args ...any) error {
		return &source.Error{Kind: source.ErrRefused, Where: s.name, Reason: "is not what the plan file was made of: " + fmt.Sprintf(format, args...),
			Advice: "make the plan file again: glmconv plan --save FILE"}
	}
	if s.name != saved.Name || s.commit != saved.Commit {
		return misfit("that is %s", saved.Name)
	}
	if len(s.files) != len(saved.Files) {
		return misfit("it lists %d files, there were %d", len(s.files), len(saved.Files))
	}
	for _, x := range saved.Files {
		f := s.byName[x.Name]
		switch {
		case f == nil:
			return misfit("%s is not there", x.Name)
		case f.Size != x.Size || f.SHA256 != x.SHA256 || f.Version != x.Version:
			return misfit("%s has changed", x.Name)
		case x.Whole != nil && int64(len(x.Whole)) != x.Size || int64(len(x.Head)) > x.Size:
			return misfit("%s was not saved whole", x.Name)
		}
		if x.Whole != nil {
			if err := f.compare(x.Whole); err != nil {
				return err
			}
			f.whole = x.Whole
		}
		if x.Head != nil {
			f.head = x.Head
		}
	}
	return nil
}

// pinned returns the commit and the listing of a saved hub, or why the address is
// of another one.
func (h *hub) pinned(saved *Saved) ([]*file, error) {
	if !commitID().MatchString(saved.Commit) || h.a.rev != "" && commitID().MatchString(h.a.rev) && h.a.rev != saved.Commit {
		return nil, &source.Error{Kind: source.ErrRefused, Where: "hf://" + h.a.id + "@" + h.a.rev, Reason: "is not the commit that the plan file was made of, " + saved.Name,
			Advice: "make the plan file again: glmconv plan --save FILE"}
	}
	h.commit = saved.Commit
	var files []*file
	for _, x := range saved.Files {
		if flat(x.Name) {
			files = append(files, &file{Entry: source.Entry{Name: x.Name, Size: x.Size, SHA256: x.SHA256, Version: x.Version}, path: x.Path, git: x.Git, located: &located{}})
		}
	}
	return files, nil
}
