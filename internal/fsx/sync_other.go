//go:build !unix

package fsx

// syncDir does nothing: these systems have no call for it.
func syncDir(string) error { return nil }

func syncUnsupported(error) bool { return false }
