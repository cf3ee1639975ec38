package mtp

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/safetensors"
)

func TestRefusals(t *testing.T) {
	edit := func(dir, from, to string) {
		path := filepath.Join(dir, "config.json")
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(raw), from)
		require.NoError(t, os.WriteFile(path, bytes.Replace(raw, []byte(from), []byte(to), 1), 0o644))
	}
	keepAll := func(string) string { return "model-00001-of-00001.safetensors" }
	for name, tc := range map[string]struct {
		model  string
		opts   Options
		damage func(dir string)
		kind   error
	}{
		"family without MTP": {"nano-glm45v", Options{}, nil, ErrNoMTP},
		"another layer":      {"nano-glm5", Options{Layer: 78}, nil, ErrLayer},
		"trunk layer":        {"nano-glm5", Options{Layer: 2}, nil, ErrLayer},
		"layer not stored": {"nano-glm5", Options{}, func(dir string) {
			rewrite(t, dir, safetensors.IndexName, func(n string) string {
				if strings.HasPrefix(n, "model.layers.3.") {
					return ""
				}
				return keepAll(n)
			})
		}, ErrNoMTP},
		"no head": {"nano-glm5", Options{}, func(dir string) {
			rewrite(t, dir, safetensors.IndexName, func(n string) string {
				if n == "lm_head.weight" {
					return ""
				}
				return keepAll(n)
			})
		}, ErrMissing},
		"vocabulary of another model": {"nano-glm5", Options{}, func(dir string) { edit(dir, `"vocab_size": 1088`, `"vocab_size": 1089`) }, ErrShape},
		"name taken":                  {"nano-glm5", Options{File: "model"}, nil, ErrConflict},
		"name with a path":            {"nano-glm5", Options{File: "../x.safetensors"}, nil, ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			dir := clone(t, tc.model)
			if tc.damage != nil {
				tc.damage(dir)
			}
			files := testkit.Files(t, dir)
			_, err := NewRemap(dir, tc.opts)
			require.ErrorIs(t, err, tc.kind)
			assert.NotContains(t, err.Error(), "\n")
			assert.Equal(t, files, testkit.Files(t, dir))
		})
	}
}

func TestQuantizedEmbedding(t *testing.T) {
	dir := clone(t, "nano-glm5")
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	x, _ := c.Info("model.embed_tokens.weight")
	require.NoError(t, c.Close())
	plan, err := safetensors.PlanFile("extra.safetensors", []safetensors.Spec{{Name: "model.embed_tokens.weight_scale", DType: safetensors.BF16, Shape: []int64{x.Shape[0], 1}}}, nil)
	require.NoError(t, err)
	w, err := safetensors.Create(fsx.OS, dir, plan)
	require.NoError(t, err)
	_, err = w.Write(make([]byte, 2*x.Shape[0]))
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(dir, safetensors.IndexName))
	require.NoError(t, err)
	idx, err := parseIndex("", raw)
	require.NoError(t, err)
	idx.WeightMap["model.embed_tokens.weight_scale"] = "extra.safetensors"
	raw, err = idx.encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, safetensors.IndexName), raw, 0o644))
	_, err = NewRemap(dir, Options{})
	require.ErrorIs(t, err, ErrQuantized)
}

func TestFileInTheWay(t *testing.T) {
	dir := clone(t, "nano-glm5")
	path := filepath.Join(dir, DefaultFile)
	require.NoError(t, os.WriteFile(path, []byte("not safetensors"), 0o644))
	r, err := NewRemap(dir, Options{})
	require.NoError(t, err)
	files := testkit.Files(t, dir)
	require.ErrorIs(t, r.Apply(context.Background()), ErrConflict)
	require.Equal(t, files, testkit.Files(t, dir))

	// One with the right names and other bytes is refused as well.
	require.NoError(t, os.Remove(path))
	apply(t, dir, Options{})
	done := testkit.Files(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, safetensors.IndexName), []byte(files[safetensors.IndexName]), 0o644))
	raw := []byte(done[DefaultFile])
	raw[len(raw)-1] ^= 1
	require.NoError(t, os.WriteFile(path, raw, 0o644))
	r, err = NewRemap(dir, Options{})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background()), ErrConflict)

	// And one that is whole is taken over: a run was stopped before the index.
	raw[len(raw)-1] ^= 1
	require.NoError(t, os.WriteFile(path, raw, 0o644))
	apply(t, dir, Options{})
	require.Equal(t, done, testkit.Files(t, dir))
}

func TestUndoKeepsLaterChanges(t *testing.T) {
	dir := clone(t, "nano-glm5")
	apply(t, dir, Options{})
	path := filepath.Join(dir, safetensors.IndexName)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	x, err := parseIndex("", raw)
	require.NoError(t, err)
	x.WeightMap["added.later"] = "model-00001-of-00002.safetensors"
	raw, err = x.encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o644))
	files := testkit.Files(t, dir)
	require.ErrorIs(t, Undo(dir, nil), ErrChanged)
	require.Equal(t, files, testkit.Files(t, dir))
}

func TestFinishedConversion(t *testing.T) {
	dir := clone(t, "nano-glm5")
	before := weights(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, manifestName), []byte("{}"), 0o644))
	files := testkit.Files(t, dir)
	r, err := NewRemap(dir, Options{})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background()), ErrFinished)
	require.Equal(t, files, testkit.Files(t, dir))
	out := filepath.Join(t.TempDir(), "result")
	apply(t, dir, Options{Out: out})
	checkResult(t, before, weights(t, out))
	assert.NoFileExists(t, filepath.Join(out, manifestName))
}
