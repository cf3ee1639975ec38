package verify

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/verify/check"
	"github.com/glmconv/glmconv/verify/diff"
	"github.com/glmconv/glmconv/verify/stats"
)

// aPartial is the file of the only part of a small comparison, without its
// checksum.
func aPartial(t testing.TB) []byte {
	t.Helper()
	side := &diff.Side{DType: "BF16", Shape: []int64{2}, File: "a"}
	p := &Partial{content: content{Version: "v", Part: part{1, 1}, Observed: observed{
		Evidence: &evidence{Check: &check.Report{}, Diff: &diff.Report{Same: 3, Changed: []diff.Tensor{{Name: "x.weight", A: side, B: side}}}},
		Forward: []*forward{{Lengths: []int{2}, Starts: []int{0}, Prefixes: []string{"", "a"}, Vocab: 4,
			Sequences: []sequence{{Layers: make([]layerSums, 2), Rows: []stats.Row{{KL: 1}, {Pos: 1}}}}}},
	}}}
	var b bytes.Buffer
	_, err := p.WriteTo(&b)
	require.NoError(t, err)
	raw := b.Bytes()
	read, why := parsePartial(raw)
	require.Empty(t, why)
	_, err = Merge([]*Partial{read})
	require.NoError(t, err)
	return raw[len(partialMagic) : len(raw)-sha256.Size]
}

// FuzzPartial reads any bytes, with a right checksum behind them, as the only
// part of a comparison, and makes a verdict of it.
func FuzzPartial(f *testing.F) {
	f.Add(aPartial(f))
	f.Fuzz(func(t *testing.T, body []byte) {
		raw := append([]byte(partialMagic), body...)
		sum := sha256.Sum256(raw)
		raw = append(raw, sum[:]...)
		testkit.AllocatesWithin(t, len(raw), 4000, testkit.GobRoom, func() {
			if p, why := parsePartial(raw); why == "" {
				if r, err := Merge([]*Partial{p}); err == nil {
					require.NotEmpty(t, r.Verdict)
				}
			}
		})
	})
}
