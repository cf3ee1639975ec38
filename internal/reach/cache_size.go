package reach

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/progress"
	"github.com/glmconv/glmconv/source"
)

const (
	// abandoned is how long nobody has written to a file in parts before it may go.
	abandoned = time.Hour
	// touchEach is how exactly the time of the last use of a file is kept.
	touchEach = time.Minute
)

// ceiling keeps a cache below a size: before a block is written, the files that are
// whole and were used longest ago go, then those in parts that nobody goes on with.
// What is used is the modification time of a file, set by who reads it. Processes
// that share a cache do not hear of each other: each counts anew what is there after
// it has written a sixteenth of the size.
type ceiling struct {
	most int64 // 0: none

	mu      sync.Mutex
	counted bool
	used    int64
	since   int64                // written since it was counted
	touched map[string]time.Time // when the use of a whole file was noted last
}

// kept is a file of the cache, whole or in parts.
type kept struct {
	path  string // without an ending
	whole bool
	bytes int64
	last  time.Time
}

// fits refuses a ceiling that a shard does not fit under.
func (k *cache) fits(files []*file) error {
	if k == nil || k.size.most == 0 {
		return nil
	}
	for _, f := range files {
		if isShard(f.Name) && f.Size > k.size.most {
			return &source.Error{Kind: source.ErrAddress, Where: k.dir, Reason: fmt.Sprintf("may have %s (--cache-size), and %s has %s: it could never be kept whole",
				progress.Bytes(k.size.most), f.Name, progress.Bytes(f.Size)), Advice: "give the cache more, or leave out --cache"}
		}
	}
	return nil
}

// touch notes that a whole file is used.
func (k *cache) touch(whole string) {
	if k.size.most == 0 {
		return
	}
	now := time.Now()
	k.size.mu.Lock()
	defer k.size.mu.Unlock()
	if now.Sub(k.size.touched[whole]) < touchEach {
		return
	}
	if k.size.touched == nil {
		k.size.touched = map[string]time.Time{}
	}
	k.size.touched[whole] = now
	_ = os.Chtimes(whole, now, now) // of another user: it goes earlier
}

// room makes room for n more bytes, false where there is none.
func (k *cache) room(n int64) bool {
	s := &k.size
	if s.most == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.counted || s.used+n > s.most || s.since > s.most/16 {
		s.used, s.since, s.counted = k.prune(n), 0, true
	}
	if s.used+n > s.most {
		return false
	}
	s.used, s.since = s.used+n, s.since+n
	return true
}

// prune counts what is there and removes what n more bytes ask for; it returns what
// is left.
func (k *cache) prune(n int64) (used int64) {
	all, newest := k.list()
	for _, x := range all {
		used += x.bytes
	}
	slices.SortFunc(all, func(a, b kept) int {
		switch {
		case a.whole == b.whole:
			return a.last.Compare(b.last)
		case a.whole:
			return -1
		}
		return 1
	})
	for _, x := range all {
		if used+n <= k.size.most {
			break
		}
		if !x.whole && newest.Sub(x.last) < abandoned || !x.remove() {
			continue
		}
		used -= x.bytes
	}
	return used
}

// remove drops a file unless somebody writes to it.
func (x kept) remove() bool {
	if x.whole {
		return os.Remove(x.path) == nil
	}
	unlock, err := fsx.Lock(x.path + ".lock")
	if err != nil {
		return false
	}
	_ = os.Remove(x.path + ".map") // first: a map without its data would lie
	gone := os.Remove(x.path + ".part")
	return unlock() == nil && gone == nil
}

// list returns the files of the cache, and when one of them was used last. Ages are
// told by the times of the files alone: the clock of a file server is another.
func (k *cache) list() (all []kept, newest time.Time) {
	at := map[string]int{}
	_ = filepath.WalkDir(k.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // what cannot be read is not counted
		}
		name, ending, _ := strings.Cut(filepath.Base(path), ".")
		base := filepath.Join(filepath.Dir(path), name)
		folder := filepath.Base(filepath.Dir(path))
		if !isSHA256().MatchString(name) || folder != "v" && folder != name[:2] || ending == "lock" {
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		if st.ModTime().After(newest) {
			newest = st.ModTime()
		}
		if ending == "" {
			all = append(all, kept{base, true, st.Size(), st.ModTime()})
			return nil
		}
		if _, ok := at[base]; !ok {
			at[base] = len(all)
			all = append(all, kept{path: base, bytes: blocksOf(base + ".map")})
		}
		if x := &all[at[base]]; st.ModTime().After(x.last) {
			x.last = st.ModTime()
		}
		return nil
	})
	return all, newest
}

// blocksOf is how much a map says is there, and a block that may be on its way.
func blocksOf(path string) int64 {
	marks, _ := fsx.ReadRegular(path, maxIndex)
	return int64(1+bytes.Count(marks, []byte{1})) * blockSize
}
