package quant

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
)

// FuzzManifest reads any text as a manifest: what is accepted says the same
// again after it was written.
func FuzzManifest(f *testing.F) {
	for _, m := range []*Manifest{{Schema: manifestSchema}, {Schema: "glmconv.manifest/0"}} {
		raw, err := json.Marshal(m)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m *Manifest
		var err error
		testkit.AllocatesWithin(t, len(raw), 600, 1<<20, func() { m, err = ParseManifest(raw) })
		if err != nil {
			require.Nil(t, m)
			return
		}
		text, err := json.Marshal(m)
		require.NoError(t, err)
		again, err := ParseManifest(text)
		require.NoError(t, err)
		once, err := json.Marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(text), string(once))
	})
}
