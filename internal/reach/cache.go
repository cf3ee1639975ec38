package reach

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/glmconv/glmconv/internal/fsx"
)

// cache keeps blocks of shards on a disk, so that a run that is resumed, or
// another one of the same source, asks for none of them again. A file of a known
// hash lies under it, in DIR/ab/HASH; others under a hash of their name, size and
// version, in DIR/v. While blocks are missing its name ends in .part, and .map has
// a byte for each block, written after the data is on the disk. A file that has
// come together is hashed; one of another hash is thrown away.
//
// Several processes may use one cache: a block that two of them want at the same
// time is fetched twice.
type cache struct {
	dir  string
	warn func(string)
	size ceiling

	mu    sync.Mutex
	off   bool                   // the disk is full, or fails
	files map[string]*sync.Mutex // by name: one write of a file at a time, while others go on
	once  sync.Once
	full  sync.Once // says so
}

// turn returns the lock of a file, nil once the cache is not filled any further.
func (k *cache) turn(whole string) *sync.Mutex {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.off {
		return nil
	}
	if k.files == nil {
		k.files = map[string]*sync.Mutex{}
	}
	if k.files[whole] == nil {
		k.files[whole] = &sync.Mutex{}
	}
	return k.files[whole]
}

// paths returns where a file lies when it is whole, in parts, and its map.
func (k *cache) paths(f *file) (whole, part, have string) {
	if f.SHA256 != "" {
		whole = filepath.Join(k.dir, f.SHA256[:2], f.SHA256)
	} else {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", f.where, f.Size, f.Version))
		whole = filepath.Join(k.dir, "v", hex.EncodeToString(sum[:]))
	}
	return whole, whole + ".part", whole + ".map"
}

// usable reports whether a file can be told from others of its name.
func (k *cache) usable(f *file) bool {
	return k != nil && isShard(f.Name) && (f.SHA256 != "" || f.Version != "")
}

// read fills p from off on, within one block; false if the block is not there.
func (k *cache) read(f *file, p []byte, off int64) bool {
	if !k.usable(f) {
		return false
	}
	whole, part, have := k.paths(f)
	if st, err := os.Stat(whole); err == nil && st.Size() == f.Size {
		k.touch(whole)
		return readFrom(whole, p, off)
	}
	var bit [1]byte
	return readFrom(have, bit[:], off/blockSize) && bit[0] == 1 && readFrom(part, p, off)
}

func readFrom(path string, p []byte, off int64) bool {
	in, err := os.Open(path)
	if err != nil {
		return false
	}
	defer in.Close()
	_, err = in.ReadAt(p, off)
	return err == nil
}

// write keeps a block. What goes wrong ends the use of the cache, not the run.
func (k *cache) write(f *file, index int64, p []byte) {
	if !k.usable(f) {
		return
	}
	whole, _, _ := k.paths(f)
	turn := k.turn(whole)
	if turn == nil {
		return
	}
	turn.Lock()
	err := k.put(f, index, p)
	turn.Unlock()
	if err != nil && !errors.Is(err, fsx.ErrLocked) {
		k.mu.Lock()
		k.off = true
		k.mu.Unlock()
		k.once.Do(func() { k.warn(fmt.Sprintf("the cache %s is not filled any further: %v", k.dir, err)) })
	}
}

func (k *cache) put(f *file, index int64, p []byte) (err error) {
	whole, part, have := k.paths(f)
	if _, err := os.Stat(whole); err == nil {
		return nil
	}
	if !k.room(int64(len(p))) {
		k.full.Do(func() {
			k.warn(fmt.Sprintf("the cache %s has no room within --cache-size beside what is being filled: some of what is fetched is not kept", k.dir))
		})
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(whole), 0o755); err != nil { //nolint:gosec // published weights
		return err
	}
	unlock, err := fsx.Lock(whole + ".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := writeInto(part, p, index*blockSize); err != nil {
		return err
	}
	if err := writeInto(have, []byte{1}, index); err != nil {
		return err
	}
	if marks, err := fsx.ReadRegular(have, maxIndex); err != nil || !full(marks, f) {
		return err
	}
	if f.SHA256 != "" {
		got, err := hashOf(part)
		if err != nil {
			return err
		}
		if got != f.SHA256 { // poisoned: begin anew
			return errors.Join(os.Remove(have), os.Remove(part))
		}
	}
	return errors.Join(os.Rename(part, whole), os.Remove(have))
}

// full reports whether all blocks of a file are marked.
func full(marks []byte, f *file) bool {
	if int64(len(marks)) != (f.Size+blockSize-1)/blockSize {
		return false
	}
	for _, m := range marks {
		if m != 1 {
			return false
		}
	}
	return true
}

// writeInto puts bytes into a file, durably.
func writeInto(path string, p []byte, off int64) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // published weights
	if err != nil {
		return err
	}
	if _, err := out.WriteAt(p, off); err != nil {
		return errors.Join(err, out.Close())
	}
	if err := out.Sync(); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}

func hashOf(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// drop forgets what is kept of a file whose bytes turned out to be others.
func (k *cache) drop(f *file) {
	if !k.usable(f) {
		return
	}
	k.dropHeader(f)
	whole, part, have := k.paths(f)
	for _, path := range []string{have, part, whole} {
		_ = os.Remove(path)
	}
}
