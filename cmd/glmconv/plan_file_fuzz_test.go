package main

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzPlanFile reads any text as a plan file, packed and as it is.
func FuzzPlanFile(f *testing.F) {
	f.Add([]byte(`{"schema":"glmconv.plan-file/1","fingerprint":"a","source":{"name":"hf://a/b@c","commit":"c","files":[{"name":"x.safetensors","size":9,"head":"AAAA"}]}}`))
	f.Add([]byte(`{"schema":"glmconv.plan-file/1","fingerprint":""}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err := z.Write(text)
		require.NoError(t, err)
		require.NoError(t, z.Close())
		for _, raw := range [][]byte{text, packed.Bytes()} {
			p, err := parsePlanFile("plan", raw)
			if err != nil {
				require.Equal(t, exitBadInput, codeOf(err))
				continue
			}
			require.Equal(t, planFileSchema, p.Schema)
			require.NotEmpty(t, p.Fingerprint)
		}
	})
}
