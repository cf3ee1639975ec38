package fsx

import (
	"io/fs"
	"syscall"
)

func inode(st fs.FileInfo) (ctime int64, number uint64) {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Ctim.Nano(), s.Ino
	}
	return 0, 0
}
