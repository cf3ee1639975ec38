package safetensors

import (
	"os"
	"path/filepath"
	"testing"

	upstream "github.com/nlpodyssey/safetensors"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// TestReferenceCheckpoints opens every reference checkpoint, golden arrays and
// quantised ones included, and compares with upstream where it can read them.
func TestReferenceCheckpoints(t *testing.T) {
	want := map[string]struct {
		files, fp8 int
		mtp        bool
	}{
		"nano-glm4moe": {files: 2}, "tiny-glm4moe": {files: 3, mtp: true}, "nano-glm5": {files: 2}, "nano-glm52": {files: 2}, "nano-glm45v": {files: 2},
		"nano-glm4moe-quantized/FP8_DYNAMIC": {files: 2, fp8: 1}, "nano-glm4moe-quantized/W4A8": {files: 2},
	}
	for name, w := range want {
		t.Run(name, func(t *testing.T) {
			dir := testkit.Shared(t, "reference/"+name)
			c, err := OpenDir(dir)
			require.NoError(t, err)
			defer c.Close()
			assert.Empty(t, c.Problems())
			assert.Equal(t, IndexName, c.IndexName())
			require.Len(t, c.Files(), w.files)
			_, ok := c.TotalSize()
			assert.True(t, ok)
			fp8 := 0
			for _, file := range c.Files() {
				fp8 += compareWithUpstream(t, c, filepath.Join(dir, file.Name))
				assert.Equal(t, w.mtp && file.Name == MTPName, file.Name == MTPName)
			}
			assert.Equal(t, w.fp8 > 0, fp8 > 0)
			assert.Len(t, c.Names(), len(c.Tensors()))
		})
	}
	for _, name := range []string{"nano-glm4moe", "tiny-glm4moe", "nano-glm5", "nano-glm52", "nano-glm45v"} {
		f, err := OpenFile(filepath.Join(testkit.Shared(t, "reference/golden/"+name), "golden.safetensors"))
		require.NoError(t, err)
		assert.NotEmpty(t, f.Tensors())
		require.NoError(t, f.Close())
	}
}

// compareWithUpstream reads a file whole through upstream and compares every
// tensor's place, shape and bytes. It returns the number of 8-bit floats.
func compareWithUpstream(t *testing.T, c *Checkpoint, path string) (fp8 int) {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	st, err := upstream.Deserialize(patchDTypes(data))
	require.NoError(t, err)
	for _, nt := range st.Tensors() {
		info, ok := c.Info(nt.Name)
		require.True(t, ok, nt.Name)
		require.Equal(t, filepath.Base(path), info.File)
		if info.DType == F8E4M3 {
			fp8++
			require.Equal(t, upstream.U8, nt.TensorView.DType())
		} else {
			require.Equal(t, nt.TensorView.DType().String(), info.DType.String())
		}
		require.Equal(t, nt.TensorView.Shape(), unsigned(info.Shape))
		got := make([]byte, info.Size)
		require.NoError(t, c.ReadAt(info, 0, got))
		require.Equal(t, nt.TensorView.Data(), got, nt.Name)
	}
	return fp8
}

func unsigned(shape []int64) []uint64 {
	out := make([]uint64, len(shape))
	for i, d := range shape {
		out[i] = uint64(d)
	}
	return out
}
