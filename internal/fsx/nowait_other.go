//go:build !unix

package fsx

const noWait = 0
