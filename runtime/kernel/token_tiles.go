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

// splitRows are the codes of activations as the panels read them, see
// split_amd64.go.
type splitRows struct {
	codes  []byte  // [M, K], int8
	pieces []piece // what they lack, by token and column; nil for nothing
	ends   []int   // of the pieces of each token
}

// piece is what was taken off four codes of a token.
type piece struct {
	at    int32 // where the columns are in a panel of all columns
	codes [4]int8
}

// once keeps a form of tokens that go through several products.
type once[T any] struct {
	done sync.Once
	form *T
}

func (o *once[T]) get(form func() *T) *T {
	o.done.Do(func() { o.form = form() })
	return o.form
}
