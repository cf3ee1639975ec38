// Command amx generates runtime/kernel's products on the matrix tiles of AMX,
// and what prepares and finishes them.
//
// The left factor of a product of tiles are weights, 16 rows of 64 bytes as they
// are stored; the right one are tokens, 16 of them side by side, with the 4 bytes
// of each that meet the 4 bytes of a weight (turned once for a product). Sums
// are 16 weight rows × 16 tokens. No sum depends on the other rows or tokens.
//
// A function configures the tiles, computes and releases them: the Go scheduler
// does not interrupt assembly, so that no goroutine leaves its thread with tiles
// in use.
package main

import . "github.com/mmcloughlin/avo/build"

func main() {
	ConstraintExpr("!purego")
	for _, k := range kinds {
		k.tiles(2)
		k.tiles(1)
	}
	scaled(true)
	scaled(false)
	split(1)
	split(3)
	table()
	fp4()
	Generate()
}
