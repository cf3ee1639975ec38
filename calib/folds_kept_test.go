package calib

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
)

// TestKeptFolds: a second search takes the folds of the first, layer by layer, and
// searches again what is damaged, of another plan or cannot be kept.
func TestKeptFolds(t *testing.T) {
	cfg, src, seqs := opened(t, "nano-glm4moe", 20)
	st, err := Collect(t.Context(), cfg, src, seqs, CollectOptions{})
	require.NoError(t, err)
	plan, err := quant.NewPlan(src, quant.W8A8, layout.CompressedTensors, quant.Options{})
	require.NoError(t, err)
	search := func(o FoldOptions) (*fold.Set, error) { return SearchFolds(t.Context(), plan, src, st, o) }
	want, err := search(FoldOptions{})
	require.NoError(t, err)

	// A first layer without folds stands for one that is told from a search.
	empty := func(t *testing.T, file string) {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var f foldsFile
		require.NoError(t, json.Unmarshal(raw, &f))
		require.NotZero(t, f.Folds.Len(), "nothing moves in this layer, so that nothing would tell")
		f.Folds = fold.NewSet()
		f.Hash = f.Folds.Hash()
		raw, err = json.Marshal(f)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, raw, 0o600))
	}
	tests := []struct {
		name   string
		change func(t *testing.T, file string)
		kept   bool
	}{
		{"as it was found", empty, true},
		{"cut off", func(t *testing.T, file string) { require.NoError(t, os.Truncate(file, 40)) }, false},
		{"another hash", func(t *testing.T, file string) { edit(t, file, "hash", "00") }, false},
		{"of another search", func(t *testing.T, file string) { edit(t, file, "id", "00") }, false},
		{"no folds in it", func(t *testing.T, file string) { edit(t, file, "folds", nil) }, false},
		{"gone", func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			found, err := search(FoldOptions{Dir: dir})
			require.NoError(t, err)
			require.Equal(t, want.Hash(), found.Hash())
			files, err := filepath.Glob(filepath.Join(dir, "folds-*", "layer-*.json"))
			require.NoError(t, err)
			require.Len(t, files, cfg.Layers+cfg.MTPLayers)
			tt.change(t, files[0])
			again, err := search(FoldOptions{Dir: dir})
			require.NoError(t, err)
			assert.Equal(t, tt.kept, again.Hash() != want.Hash())
		})
	}

	t.Run("after an interruption", func(t *testing.T) {
		dir := t.TempDir()
		ctx, stop := context.WithCancel(t.Context())
		_, err := SearchFolds(ctx, plan, src, st, FoldOptions{Dir: dir, Progress: func(done, _ int64, _ string) {
			if done == 2 {
				stop()
			}
		}})
		require.ErrorIs(t, err, context.Canceled)
		files, err := filepath.Glob(filepath.Join(dir, "folds-*", "layer-*.json"))
		require.NoError(t, err)
		require.Len(t, files, 2)
		found, err := search(FoldOptions{Dir: dir})
		require.NoError(t, err)
		require.Equal(t, want.Hash(), found.Hash())
	})
	t.Run("parts", func(t *testing.T) {
		dir := t.TempDir()
		for part := 1; part <= 2; part++ {
			ctx, stop := context.WithCancel(t.Context())
			_, err := SearchFolds(ctx, plan, src, st, FoldOptions{Dir: dir, Part: part, Parts: 2, Progress: func(done, _ int64, _ string) {
				if done == 1 {
					stop()
				}
			}})
			require.ErrorIs(t, err, context.Canceled)
		}
		files, err := filepath.Glob(filepath.Join(dir, "folds-*", "layer-*.json"))
		require.NoError(t, err)
		require.Len(t, files, 2, "both parts searched the same layer")
		found, err := search(FoldOptions{Dir: dir, Part: 2, Parts: 2})
		require.NoError(t, err)
		require.Equal(t, want.Hash(), found.Hash())
	})
	t.Run("a folder that cannot be written", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		found, err := search(FoldOptions{Dir: file})
		require.NoError(t, err)
		require.Equal(t, want.Hash(), found.Hash())
	})
	t.Run("another plan", func(t *testing.T) {
		dir := t.TempDir()
		_, err := search(FoldOptions{Dir: dir})
		require.NoError(t, err)
		other, err := quant.NewPlan(src, quant.W4A16, layout.CompressedTensors, quant.Options{})
		require.NoError(t, err)
		_, err = SearchFolds(t.Context(), other, src, st, FoldOptions{Dir: dir})
		require.NoError(t, err)
		dirs, err := filepath.Glob(filepath.Join(dir, "folds-*"))
		require.NoError(t, err)
		require.Len(t, dirs, 2)
	})
}

// edit sets a member of a file's object.
func edit(t *testing.T, file, member string, to any) {
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	m := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &m))
	m[member] = to
	raw, err = json.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, raw, 0o600))
}
