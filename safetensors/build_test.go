package safetensors

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// rawFile puts a file together without any check.
func rawFile(header string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

// putFile writes test input and returns its path.
func putFile(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

// patchDTypes returns a copy in which the types that upstream lacks are called
// U8 (those of one byte an element), padded so that the length stays.
func patchDTypes(file []byte) []byte {
	out := bytes.Clone(file)
	if len(out) < 8 || binary.LittleEndian.Uint64(out) > uint64(len(out)-8) {
		return out
	}
	head := out[8 : 8+binary.LittleEndian.Uint64(out)]
	for _, d := range []DType{F8E5M2, F8E4M3, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ} {
		old := []byte(`"` + d.String() + `"`)
		repl := append([]byte(`"U8"`), bytes.Repeat([]byte(" "), len(old)-4)...)
		copy(head, bytes.ReplaceAll(head, old, repl))
	}
	return out
}
