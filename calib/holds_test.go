package calib

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant/numeric"
)

// TestStoredCodesOfAnotherText: codes that were learnt for another plan or from
// another text are learnt again, and written over them.
func TestStoredCodesOfAnotherText(t *testing.T) {
	dir, names := t.TempDir(), []string{"w"}
	room := int64(1 << 20)
	shelf := shelf{room: &room}
	codes := func(b byte) []*kept {
		k, err := shelf.put(&numeric.Matrix{Code: numeric.Int8, Rows: 1, Cols: 4, Codes: []byte{b, b, b, b}, Scales: []float32{1}, BlockRows: 1, BlockCols: 4})
		require.NoError(t, err)
		return []*kept{k}
	}
	require.NoError(t, newStore(fsx.OS, dir, "gptq", "one").put(3, names, codes(1)))
	again := newStore(fsx.OS, dir, "gptq", "one")
	assert.True(t, again.has(3))
	require.NoError(t, again.Close())
	other := newStore(fsx.OS, dir, "gptq", "two")
	assert.False(t, other.has(3))
	_, err := other.file(3)
	require.ErrorIs(t, err, errOtherCodes)
	require.NoError(t, other.put(3, names, codes(2)))
	assert.True(t, other.has(3))
	require.NoError(t, other.Close())
}

// TestHolds: a finished part is of its source and its text.
func TestHolds(t *testing.T) {
	dir, seqs := t.TempDir(), [][]int{{1, 2}, {3}}
	s := &Statistics{Source: "a", Sequences: seqs[1:], First: 1, Text: TextID(seqs)}
	require.NoError(t, s.Write(fsx.OS, dir, 2, 2))
	require.NoError(t, Holds(dir, 2, 2, "a", seqs[1:]))
	require.NoError(t, Holds(dir, 2, 2, "a", nil))
	assert.ErrorIs(t, Holds(dir, 2, 2, "b", seqs[1:]), ErrStatistics)
	assert.ErrorIs(t, Holds(dir, 2, 2, "a", seqs[:1]), ErrStatistics)
	assert.Error(t, Holds(dir, 1, 2, "a", seqs[:1]))
	require.NoError(t, (&Statistics{Source: "a", Sequences: seqs[:1], Text: "another"}).Write(fsx.OS, dir, 1, 2))
	_, err := Read(dir)
	assert.ErrorContains(t, err, "different texts")
}
