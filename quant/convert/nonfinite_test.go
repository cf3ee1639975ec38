package convert

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant"
)

// TestNaNIsNotCopied: a value that is not a number stops a conversion whether
// its weight is quantised or copied, with file, tensor and place.
func TestNaNIsNotCopied(t *testing.T) {
	for _, name := range []string{"lm_head.weight", "model.norm.weight", "model.layers.1.self_attn.o_proj.weight"} {
		dir := demoModel(t)
		x, ok := open(t, dir).Info(name)
		require.True(t, ok, name)
		cols := x.Shape[len(x.Shape)-1]
		row, col := x.Elements()/cols-1, cols/2 // a vector is one row
		f, err := os.OpenFile(dir+"/"+x.File, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(binary.LittleEndian.AppendUint16(nil, 0x7fc1), x.Offset+2*(row*cols+col))
		require.NoError(t, err)
		require.NoError(t, f.Close())

		_, err = convertW8A8(t, dir, t.TempDir()+"/out", Options{})
		var bad *quant.NonFiniteError
		require.ErrorAs(t, err, &bad, name)
		assert.Equal(t, []any{name, x.File, row, col}, []any{bad.Tensor, bad.File, bad.Row, bad.Col})
	}
}
