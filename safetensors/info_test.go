package safetensors

import (
	"encoding/json"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		name      string
		d         DType
		shape     []int64
		size, row int64
	}{
		{"scalar", F32, nil, 4, -1},
		{"matrix", F32, []int64{3, 5}, 60, 20},
		{"vector", BF16, []int64{7}, 14, 2},
		{"half bytes, whole rows", F4, []int64{4, 6}, 12, 3},
		{"half bytes, odd rows", F4, []int64{2, 3}, 3, -1},
		{"half a byte left", F4, []int64{3}, -1, -1},
		{"six bits", F6E2M3, []int64{2, 4}, 6, 3},
		{"no rows", U8, []int64{0, 9}, 0, 0},
		{"empty rows", U8, []int64{9, 0}, 0, 0},
		{"negative", U8, []int64{-1}, -1, 0},
		{"overflow", U8, []int64{math.MaxInt64, 2}, -1, 0},
		{"no dtype", Invalid, []int64{1}, -1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			size := DataSize(c.d, c.shape)
			assert.Equal(t, c.size, size)
			assert.Equal(t, size, Spec{DType: c.d, Shape: c.shape}.Bytes())
			if size >= 0 {
				assert.Equal(t, c.row, Info{DType: c.d, Shape: c.shape, Size: size}.RowSize())
			}
		})
	}
	assert.EqualValues(t, 1, Info{}.Elements())
	assert.EqualValues(t, 24, Info{Shape: []int64{2, 3, 4}}.Elements())
}

func TestDTypeText(t *testing.T) {
	for d := Bool; d <= U64; d++ {
		b, err := json.Marshal(d)
		require.NoError(t, err)
		assert.Equal(t, `"`+d.String()+`"`, string(b))
		var back DType
		require.NoError(t, json.Unmarshal(b, &back))
		assert.Equal(t, d, back)
	}
	_, err := json.Marshal(Invalid)
	require.Error(t, err)
	var d DType
	require.Error(t, json.Unmarshal([]byte(`"F9"`), &d))
	assert.Equal(t, "DType(200)", DType(200).String())
}

// TestReadFailure: what the operating system refuses is ErrIO and names file,
// tensor and offset.
func TestReadFailure(t *testing.T) {
	dir := goodDir(t)
	c, err := OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	info, _ := c.Info("c")
	require.NoError(t, c.pool.m[two].file.Close())
	err = c.ReadRows("c", 1, 2, make([]byte, 1))
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, ErrIO, e.Kind)
	assert.Equal(t, filepath.Join(dir, two), e.File)
	assert.Equal(t, "c", e.Tensor)
	assert.Equal(t, info.Offset+1, e.Offset)
	require.Error(t, e.Err)
}
