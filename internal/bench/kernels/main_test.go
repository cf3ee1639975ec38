package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/bench/limits"
	"github.com/glmconv/glmconv/internal/demo"
)

func TestPairs(t *testing.T) {
	v, l := []float64{9, 2, 8, 3}, []float64{9, 4, 10, 5}
	i, j := -1, -1
	var f figure
	require.NoError(t, f.pairs(3, func() (float64, error) { i++; return v[i], nil }, func() (float64, error) { j++; return l[j], nil }))
	assert.EqualValues(t, 3, f.Value, "the first turn does not count")
	assert.EqualValues(t, 5, f.LimitRate)
	assert.InDelta(t, 0.6, f.Ratio, 1e-9)
	bad := errors.New("bad")
	assert.ErrorIs(t, f.pairs(1, func() (float64, error) { return 0, bad }, func() (float64, error) { return 1, nil }), bad)
}

func TestTable(t *testing.T) {
	figures := []figure{
		{Name: "a", Path: "avx2", Threads: 2, Unit: "GMAC/s", Value: 30, Limit: "peak", LimitRate: 40, Ratio: 0.75},
		{Name: "a", Path: "purego", Threads: 2, Unit: "GMAC/s", Value: 3},
	}
	compare(figures)
	var b bytes.Buffer
	showLimits(&b, limits.Limits{{Name: limits.MemoryRead, Unit: "GB/s", Threads: 2, Rate: 20}})
	showFigures(&b, figures)
	assert.Regexp(t, `memory read +2 +20.00 GB/s`, b.String())
	assert.Regexp(t, `a +avx2 +2 +30.00 +40.00 +0.75  GMAC/s, peak\n`, b.String())
	assert.Regexp(t, `a +purego +2 +3.00 +- +-  GMAC/s, 10.0 times slower\n`, b.String())
}

// TestMeasure: a figure of this process's path has a rate and a limit where the
// path has one.
func TestMeasure(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: multiplies for a second")
	}
	var b bytes.Buffer
	o := options{threads: 1, runs: 1, only: "int8 × int8, 64", child: true}
	require.NoError(t, run(context.Background(), o, &b))
	var f []figure
	require.NoError(t, json.Unmarshal(b.Bytes(), &f))
	require.Len(t, f, 1)
	assert.Positive(t, f[0].Value)
	assert.Equal(t, f[0].Limit != "", f[0].LimitRate > 0)
	none, err := measure(context.Background(), o, regexp.MustCompile("nothing is called so"))
	assert.NoError(t, err)
	assert.Empty(t, none)
	assert.Error(t, run(context.Background(), options{only: "("}, &b))
	_, _, err = active(filepath.Join(t.TempDir(), "missing"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// TestMany: the figure of many sequences has both rates.
func TestMany(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, demo.Extract(dir))
	f, err := measureMany(context.Background(), dir, 2, 2)
	require.NoError(t, err)
	assert.Positive(t, f.Value)
	assert.Positive(t, f.LimitRate)
	assert.Positive(t, f.Ratio)
	_, err = measureMany(context.Background(), filepath.Join(dir, "missing"), 1, 1)
	assert.ErrorIs(t, err, os.ErrNotExist)
}
