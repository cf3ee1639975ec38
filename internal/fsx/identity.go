package fsx

import "io/fs"

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
	id.Ctime, id.Number = inode(st)
	return id
}
