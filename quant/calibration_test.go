package quant

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestSeen: text that was calibrated on is known in other cuts, a half is a half,
// and other text is not known.
func TestSeen(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 8))
	text := func(n int) (ids []int) {
		for range n {
			ids = append(ids, r.IntN(5000))
		}
		return ids
	}
	cut := func(ids []int, n int) (seqs [][]int) {
		for ; len(ids) >= n; ids = ids[n:] {
			seqs = append(seqs, ids[:n])
		}
		return seqs
	}
	for _, n := range []int{600, 65536} {
		seen, other := text(n), text(n)
		c := NewCalibration(cut(seen, 512))
		assert.Equal(t, n/512, c.Sequences)
		part := seen[37:min(n, 512)]
		if n > 4096 {
			part = seen[37:8229]
		}
		assert.Greater(t, c.Seen(cut(part, 128)), 0.8)
		assert.Zero(t, c.Seen(cut(other, 128)))
		half := append(append([]int(nil), part...), other[:len(part)]...)
		assert.InDelta(t, 0.5, c.Seen([][]int{half}), 0.2)
		assert.Zero(t, c.Seen(nil))
	}
	for _, damaged := range []string{"", "?", "AAAA", "AAAAAAAAAAA="} {
		assert.Zero(t, (&Calibration{Sketch: damaged}).Seen([][]int{text(100)}))
	}
}
