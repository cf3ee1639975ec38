//go:build !amd64

package main

func hasAMX() bool { return false }
