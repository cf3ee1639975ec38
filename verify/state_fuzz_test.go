package verify

import (
	"bytes"
	"encoding/binary"
	"hash/crc64"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
)

// aState is the file of a comparison after its second layer.
func aState(t testing.TB) []byte {
	t.Helper()
	s := &stateFile{path: filepath.Join(t.TempDir(), "state"), key: "key", fs: fsx.OS}
	require.NoError(t, s.save(&point{Evidence: &evidence{}, Layer: 2, Sequences: []sequence{{Layers: make([]layerSums, 2)}}, KeysA: [][][]int32{{{1, 2}}, {nil}}}, []float32{1, 2, 3}, []float32{4}))
	raw, err := os.ReadFile(s.path)
	require.NoError(t, err)
	return raw
}

// TestDamagedState: a state in which one bit differs, or that lacks its end, is
// not gone on from.
func TestDamagedState(t *testing.T) {
	raw := aState(t)
	read := func(b []byte) *point {
		p, x, y := readPoint(bytes.NewReader(b), int64(len(b)), "key")
		if p != nil {
			require.Equal(t, []float32{1, 2, 3}, x)
			require.Equal(t, []float32{4}, y)
		}
		return p
	}
	require.NotNil(t, read(raw))
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		require.Nil(t, read(bad), "bit %d of byte %d", i%8, i)
		require.Nil(t, read(raw[:i]), "the first %d bytes", i)
	}
	require.Nil(t, read(append(bytes.Clone(raw), 0)))
}

// FuzzState reads any bytes, with a right checksum behind them, as the state of
// a comparison.
func FuzzState(f *testing.F) {
	raw := aState(f)
	f.Add(raw[:len(raw)-crc64.Size])
	f.Fuzz(func(t *testing.T, body []byte) {
		raw := binary.BigEndian.AppendUint64(bytes.Clone(body), crc64.Checksum(body, stateSums))
		testkit.AllocatesWithin(t, len(raw), 4000, testkit.GobRoom, func() {
			if p, x, y := readPoint(bytes.NewReader(raw), int64(len(raw)), "key"); p != nil {
				require.Len(t, x, p.X)
				require.Len(t, y, p.Y)
			}
		})
	})
}
