//go:build !race

package kernel

// raced says that the race detector watches, under which emulated tiles take minutes.
const raced = false
