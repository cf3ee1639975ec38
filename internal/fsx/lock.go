package fsx

import "errors"

// ErrLocked says that another process holds the lock; trying again later may
// succeed.
var ErrLocked = errors.New("locked by another process")

// Lock takes an exclusive lock without waiting. If path is a directory the
// lock is on the directory itself and leaves no file behind; otherwise path is
// a lock file, made if missing and removed by unlock. The lock ends with the
// process at the latest. The error matches [ErrLocked] if someone else has it,
// be it another process or this one.
func Lock(path string) (unlock func() error, err error) { return lock(path) }
