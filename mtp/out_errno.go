package mtp

import (
	"errors"
	"io/fs"
	"syscall"
)

// linkUnsupported tells whether a failed link is a reason to copy: another
// device, a file system without links, a file of someone else, too many links.
func linkUnsupported(err error) bool {
	return errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.ENOTSUP) ||
		errors.Is(err, syscall.ENOSYS) || errors.Is(err, fs.ErrPermission)
}
