//go:build !linux && !purego

package cpu

// permitTiles is false: the tiles have been tried on Linux only.
func permitTiles() bool { return false }
