package safetensors

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

// TestBytesRead counts what the two ways of reading ask for, also after Close.
func TestBytesRead(t *testing.T) {
	dir := t.TempDir()
	plan, err := PlanFile(SingleName, []Spec{{"a", U8, []int64{10, 100}}}, nil)
	require.NoError(t, err)
	_, err = writeAll(fsx.OS, dir, plan, make([]byte, 1000), 1000)
	require.NoError(t, err)
	c, err := OpenDir(dir)
	require.NoError(t, err)
	assert.Zero(t, c.BytesRead(), "headers do not count")
	a, ok := c.Info("a")
	require.True(t, ok)
	require.NoError(t, c.ReadAt(a, 5, make([]byte, 7)))
	require.NoError(t, c.ReadRows("a", 2, 4, make([]byte, 200)))
	require.NoError(t, c.Close())
	assert.EqualValues(t, 207, c.BytesRead())
}
