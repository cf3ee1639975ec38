package limits

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	v := []float64{5, 1, 3}
	i := 0
	m, err := Median(3, func() (float64, error) { i++; return v[i-1], nil })
	require.NoError(t, err)
	assert.EqualValues(t, 3, m)
	_, err = Median(0, func() (float64, error) { return 0, os.ErrClosed })
	assert.ErrorIs(t, err, os.ErrClosed, "at least one run, and its error")
}

func TestStreams(t *testing.T) {
	src := make([]byte, 4096)
	for i := range src {
		src[i] = byte(7 * i)
	}
	got := read(src)
	src[4032]++
	assert.NotEqual(t, got, read(src), "the last line is read")
	for shift := range 2 { // aligned, and not
		dst := make([]byte, 1<<20) // page aligned: too large for the stack
		stream(dst[32+shift:][:2048], src)
		assert.Zero(t, dst[31+shift], "nothing is written before")
		assert.Zero(t, dst[2080+shift], "nor behind")
		assert.NotZero(t, dst[2079+shift], "the last byte is written")
	}
}

func TestComputeCounts(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range loops() {
		assert.False(t, seen[l.name])
		seen[l.name] = true
		l.run(3)
	}
	l := Limits{{Name: "a", Rate: 2}}
	assert.EqualValues(t, 2, l.Rate("a"))
	assert.Zero(t, l.Rate("b"))
	assert.EqualValues(t, 3, onAll(3, func(int) float64 { return 1 }))
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	l, err := Disk(dir, 9<<20+5)
	require.NoError(t, err)
	for _, name := range []string{WriteFlush, Rewrite, ReadCached} {
		assert.Positive(t, l.Rate(name), name)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = Disk(dir+"/missing", 1)
	assert.Error(t, err)
}
