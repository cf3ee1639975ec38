package fsx

import (
	"hash/fnv"
	"io/fs"
	"os"

	"github.com/glmconv/glmconv/source"
)

// Identity is what a system says about a file that changes when its bytes do.
// The change time is the system's own, which nobody can set back; it also moves
// when a file gets another name or other rights.
type Identity struct {
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime_ns"`
	Ctime  int64  `json:"ctime_ns"` // 0 where the system has none
	Number uint64 `json:"inode"`    // 0 where the system has none
}

// IdentityOf returns the identity of a file.
func IdentityOf(st fs.FileInfo) Identity {
	id := Identity{Size: st.Size(), Mtime: st.ModTime().UnixNano()}
	if e, ok := source.EntryOf(st); ok {
		h := fnv.New64a()
		h.Write([]byte(e.Version))
		id.Number = h.Sum64()
		return id
	}
	id.Ctime, id.Number = inode(st)
	return id
}

// SameFile is os.SameFile, also for files of a mounted source: those are the same
// while their name, size and version are.
func SameFile(a, b fs.FileInfo) bool {
	x, ok := source.EntryOf(a)
	y, also := source.EntryOf(b)
	if ok || also {
		return ok && also && x == y
	}
	return os.SameFile(a, b)
}
