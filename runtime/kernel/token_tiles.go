package kernel

import "sync"

// tokenTiles are tokens as the right factor of matrix tiles: sixteen tokens
// after the other, [steps][terms][step], where a step is 16 rows of 4 bytes of
// each token that meet 64 bytes of a weight's row. A single token has rows of 4
// bytes, all others of 64.
type tokenTiles struct {
	m, tiles, steps, terms int
	step                   int // bytes
	data                   []byte
}

// turned keeps the tiles of tokens that go through several products.
type turned struct {
	once  sync.Once
	tiles *tokenTiles
}

func (t *turned) get(turn func() *tokenTiles) *tokenTiles {
	t.once.Do(func() { t.tiles = turn() })
	return t.tiles
}
