//go:build unix

package fsx

import "syscall"

// noWait keeps an open of what has become a named pipe from waiting.
const noWait = syscall.O_NONBLOCK
