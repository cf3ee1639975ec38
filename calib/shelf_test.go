package calib

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/engine"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
)

// TestMeasureRemovesWhatWasLeft: codes that a killed measurement has left in the
// scratch folder go with the next one; those of another that runs, and files of
// others, stay.
func TestMeasureRemovesWhatWasLeft(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm4moe", 4)
	st, err := Collect(t.Context(), cfg, src, seqs[:2], CollectOptions{})
	require.NoError(t, err)
	plan, err := quant.NewPlan(src, quant.W4A16, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	m, err := NewMix(plan, src, engine.Query{})
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("codes"), 0o600))
	}
	left := []string{".measured-00000000000000ff.bin.glmconv-tmp", "measured-00000000000000ff.bin.lock", ".measured-1.bin.glmconv-tmp", "measured-2.bin.lock"}
	others := []string{"sensitivity.json", ".states.bin.glmconv-tmp", "measured-1.bin", "rotated-1.lock"}
	for _, name := range append(left[:len(left):len(left)], others...) {
		write(name)
	}
	room := int64(0)
	running := shelf{fs: fsx.OS, file: filepath.Join(dir, "measured-3.bin"), room: &room, shared: true}
	kept, err := running.put(&numeric.Matrix{Code: numeric.Int8, Rows: 1, Cols: 2, BlockRows: 1, BlockCols: 2, Codes: []byte{1, 2}, Scales: []float32{1}})
	require.NoError(t, err)

	_, err = m.Whole(t.Context(), plan, st, MeasureOptions{Sequences: seqs[2:], Scratch: dir})
	require.NoError(t, err)
	for _, name := range left {
		assert.NoFileExists(t, filepath.Join(dir, name))
	}
	for _, name := range append(others, ".measured-3.bin.glmconv-tmp", "measured-3.bin.lock") {
		assert.FileExists(t, filepath.Join(dir, name))
	}
	back, err := kept.matrix()
	require.NoError(t, err)
	assert.Equal(t, []byte{1, 2}, back.Codes)
	require.NoError(t, running.close())
	assert.NoFileExists(t, filepath.Join(dir, ".measured-3.bin.glmconv-tmp"))
	assert.NoFileExists(t, filepath.Join(dir, "measured-3.bin.lock"))
}
