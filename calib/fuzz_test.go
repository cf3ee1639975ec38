package calib

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// someStatistics is the file of a small part.
func someStatistics(t testing.TB) []byte {
	t.Helper()
	m := newMoments(2)
	m.Count = 3
	s := &Statistics{Source: "a", Sequences: [][]int{{1, 2}, {3}}, Moments: map[string]*Moments{"model.layers.0.mlp.up_proj.weight": m}}
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
		for name, m := range s.Moments {
			require.GreaterOrEqual(t, m.Count, int64(0), name)
			require.Len(t, m.AbsMax, len(m.sum2), name)
			require.Len(t, m.Sample, len(m.keys)*len(m.sum2), name)
		}
	})
}

// FuzzPoint reads any bytes, with the right hash before them, as states between
// two layers.
func FuzzPoint(f *testing.F) {
	var b bytes.Buffer
	require.NoError(f, gob.NewEncoder(&b).Encode(&point{Layer: 1, Float: []byte{1, 2}, KeysF: [][][]int32{{{1}}}}))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		raw := append(sum[:], body...)
		testkit.AllocatesWithin(t, len(raw), 400, testkit.GobRoom, func() { readPoint(raw) })
		if len(body) > 0 {
			raw[len(raw)-1] ^= 1
			require.Nil(t, readPoint(raw))
		}
	})
}
