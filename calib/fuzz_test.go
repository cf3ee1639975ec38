package calib

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
)

// someStatistics is the file of a small part.
func someStatistics(t testing.TB) []byte {
	t.Helper()
	m := newMoments(2)
	m.Count = 3
	s := &Statistics{Source: "a", Sequences: [][]int{{1, 2}, {3}}, held: map[string]*Moments{"model.layers.0.mlp.up_proj.weight": m}}
	dir := t.TempDir()
	require.NoError(t, s.Write(nil, dir, 1, 1))
	raw, err := os.ReadFile(filepath.Join(dir, PartName(1, 1)))
	require.NoError(t, err)
	return raw
}

// FuzzStatistics reads any bytes as the statistics of a text: they are refused,
// or tokens and moments are such as are computed with.
func FuzzStatistics(f *testing.F) {
	f.Add(someStatistics(f))
	path := filepath.Join(f.TempDir(), PartName(1, 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		var s *Statistics
		var err error
		testkit.AllocatesWithin(t, len(raw), 400, 1<<20, func() { s, err = readPart(path) })
		if err != nil {
			return
		}
		for _, q := range s.Sequences {
			require.NotEmpty(t, q)
			for _, id := range q {
				require.GreaterOrEqual(t, id, 0)
			}
		}
		defer func() { _ = s.Close() }()
		for _, name := range s.Names() {
			m, err := s.Moments(name)
			require.NoError(t, err)
			require.GreaterOrEqual(t, m.Count, int64(0), name)
			require.Len(t, m.AbsMax, len(m.sum2), name)
			require.Len(t, m.Sample(), len(m.keys)*len(m.sum2), name)
		}
	})
}

// FuzzStates reads any bytes as states between two layers.
func FuzzStates(f *testing.F) {
	f.Add(binary.LittleEndian.AppendUint32([]byte{0, 0, 128, 63, 0, 0, 0, 64}, 0))
	f.Add([]byte{0, 0, 128, 63, 0, 0, 0, 64, 1, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, statesFile(1)), body, 0o600))
		require.False(t, wholeStates(dir, 1, ""), "without a hash")
		x := make([]float32, 2)
		var span runtime.Span
		var err error
		testkit.AllocatesWithin(t, len(body), 400, 2<<20, func() {
			r, openErr := openStates(dir, 1, "")
			require.NoError(t, openErr)
			defer r.close()
			span, err = r.next(1, x)
		})
		if err != nil {
			return
		}
		again := numeric.AppendF32(nil, x)
		again = binary.LittleEndian.AppendUint32(again, uint32(len(span.Keys)))
		for _, keys := range span.Keys {
			again = binary.LittleEndian.AppendUint32(again, uint32(len(keys)))
			for _, k := range keys {
				again = binary.LittleEndian.AppendUint32(again, uint32(k))
			}
		}
		require.Equal(t, again, body[:len(again)], "what is read is what is there")
	})
}
