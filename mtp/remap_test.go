package mtp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
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

const (
	copyEmbed = "model.layers.3.embed_tokens.weight"
	copyHead  = "model.layers.3.shared_head.head.weight"
)

func TestInPlace(t *testing.T) {
	dir := clone(t, "nano-glm5")
	files, before := testkit.Files(t, dir), weights(t, dir)
	was, _ := totalSize(t, dir, safetensors.IndexName)

	var seen int64
	var r *Remap
	r, err := NewRemap(dir, Options{Progress: func(done, total int64, detail string) {
		assert.GreaterOrEqual(t, done, seen)
		seen = done
		assert.Equal(t, r.Bytes, total)
		assert.Equal(t, DefaultFile, detail)
	}})
	require.NoError(t, err)
	assert.Equal(t, 3, r.Layer)
	assert.False(t, r.Done)
	require.NoError(t, r.Apply(context.Background()))
	assert.Equal(t, r.Bytes, seen)

	after := weights(t, dir)
	checkResult(t, before, after)
	total, m := totalSize(t, dir, safetensors.IndexName)
	assert.Equal(t, was+r.Bytes, total)
	assert.Equal(t, DefaultFile, m[copyEmbed])
	assert.Equal(t, DefaultFile, m[copyHead])

	now := testkit.Files(t, dir)
	for name, text := range files {
		if name != safetensors.IndexName {
			assert.True(t, text == now[name], "%s changed", name)
		}
	}
	assert.Len(t, now, len(files)+1)

	// Again: nothing happens.
	again := apply(t, dir, Options{Layer: 3})
	assert.True(t, again.Done)
	assert.Contains(t, again.Text(), "already done")
	require.Equal(t, now, testkit.Files(t, dir))

	require.NoError(t, Undo(dir, nil))
	require.Equal(t, files, testkit.Files(t, dir))
	require.ErrorIs(t, Undo(dir, nil), ErrNoUndo)
}

func TestOut(t *testing.T) {
	dir := clone(t, "nano-glm5")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "extra"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "extra", "note.txt"), []byte("x"), 0o644))
	files, before := testkit.Files(t, dir), weights(t, dir)
	out := filepath.Join(t.TempDir(), "result")
	apply(t, dir, Options{Out: out})
	require.Equal(t, files, testkit.Files(t, dir), "the source changed")
	checkResult(t, before, weights(t, out))
	for _, name := range []string{"model-00001-of-00002.safetensors", "config.json", "extra/note.txt"} {
		a, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		b, err := os.Stat(filepath.Join(out, name))
		require.NoError(t, err)
		assert.True(t, os.SameFile(a, b), "%s is no hard link", name)
	}
	raw, err := os.ReadFile(filepath.Join(out, safetensors.IndexName))
	require.NoError(t, err)
	assert.NotContains(t, string(raw), undoKey)
	once := testkit.Files(t, out)
	apply(t, dir, Options{Out: out})
	require.Equal(t, once, testkit.Files(t, out))

	// A directory with something else in it is refused.
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "mine.txt"), nil, 0o644))
	r, err := NewRemap(dir, Options{Out: other})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background()), ErrConflict)
	r, err = NewRemap(dir, Options{Out: filepath.Join(dir, "inside")})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background()), ErrConflict)
}

func TestOutWithoutLinks(t *testing.T) {
	dir := clone(t, "nano-glm5")
	before := weights(t, dir)
	out := filepath.Join(t.TempDir(), "result")
	r, err := NewRemap(dir, Options{Out: out, FS: noLinks{fsx.OS}})
	require.NoError(t, err)
	require.NoError(t, r.Apply(context.Background()))
	checkResult(t, before, weights(t, out))
}

func TestOneShardOrMany(t *testing.T) {
	for name, tc := range map[string]struct {
		index string
		file  func(string) string
	}{
		"single file": {"", func(string) string { return safetensors.SingleName }},
		"one shard":   {safetensors.IndexName, func(string) string { return "model-00001-of-00001.safetensors" }},
		"many shards": {safetensors.IndexName, func(n string) string { return fmt.Sprintf("model-%s.safetensors", strings.ReplaceAll(n, ".", "_")) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := clone(t, "nano-glm5")
			rewrite(t, dir, tc.index, tc.file)
			files, before := testkit.Files(t, dir), weights(t, dir)
			apply(t, dir, Options{})
			checkResult(t, before, weights(t, dir))
			assert.FileExists(t, filepath.Join(dir, safetensors.IndexName))
			require.NoError(t, Undo(dir, nil))
			require.Equal(t, files, testkit.Files(t, dir))
		})
	}
}

func TestUnlistedMTPFile(t *testing.T) {
	dir := clone(t, "tiny-glm4moe")
	all := weights(t, dir)
	raw, err := os.ReadFile(filepath.Join(dir, safetensors.IndexName))
	require.NoError(t, err)
	x, err := parseIndex("", raw)
	require.NoError(t, err)
	maps.DeleteFunc(x.WeightMap, func(_, f string) bool { return f == safetensors.MTPName })
	raw, err = x.encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, safetensors.IndexName), raw, 0o644))
	files := testkit.Files(t, dir)

	r := apply(t, dir, Options{})
	assert.Equal(t, 4, r.Layer)
	assert.Len(t, r.Copies, 2)
	assert.NotEmpty(t, r.Listed)
	after := weights(t, dir)
	assert.Len(t, after, len(all)+2)
	_, m := totalSize(t, dir, safetensors.IndexName)
	assert.Equal(t, safetensors.MTPName, m["model.layers.4.eh_proj.weight"])
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	assert.Empty(t, c.Problems())
	require.NoError(t, c.Close())
	require.NoError(t, Undo(dir, nil))
	require.Equal(t, files, testkit.Files(t, dir))
}

func TestNothingToDo(t *testing.T) {
	dir := clone(t, "nano-glm4moe")
	files := testkit.Files(t, dir)
	r := apply(t, dir, Options{})
	assert.True(t, r.Done)
	require.Equal(t, files, testkit.Files(t, dir))
	raw, err := json.Marshal(r)
	require.NoError(t, err)
	assert.Contains(t, string(raw), `"done":true`)
}

func TestAscendDescription(t *testing.T) {
	dir := clone(t, "nano-glm5")
	rewrite(t, dir, safetensors.AscendIndexName, func(string) string { return "quant_model_weights-00001-of-00001.safetensors" })
	before := weights(t, dir)
	desc := map[string]any{"version": "1.0.0", "group_size": 0}
	for n := range before {
		desc[n] = "FLOAT"
	}
	text, err := json.MarshalIndent(desc, "", "    ")
	require.NoError(t, err)
	path := filepath.Join(dir, descriptionName)
	require.NoError(t, os.WriteFile(path, text, 0o644))
	files := testkit.Files(t, dir)

	apply(t, dir, Options{})
	checkResult(t, before, weights(t, dir))
	_, m := totalSize(t, dir, safetensors.AscendIndexName)
	assert.Equal(t, DefaultFile, m[copyHead])
	assert.NoFileExists(t, filepath.Join(dir, safetensors.IndexName))
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	got := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &got))
	assert.Equal(t, "FLOAT", got[copyEmbed])
	assert.Equal(t, "FLOAT", got[copyHead])
	assert.Len(t, got, len(desc)+2)
	assert.True(t, bytes.HasSuffix(raw, text[10:]), "the rest of the description changed")
	require.NoError(t, Undo(dir, nil))
	require.Equal(t, files, testkit.Files(t, dir))

	// Rotated checkpoints are refused.
	desc["is_rot_used"] = true
	text, err = json.Marshal(desc)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o644))
	_, err = NewRemap(dir, Options{})
	require.ErrorIs(t, err, ErrRotated)
}

func TestAddEntries(t *testing.T) {
	copies := []Entry{{"a", "FLOAT"}, {"b", "FLOAT"}}
	for in, want := range map[string]string{
		`{}`:                      "{\n  \"a\": \"FLOAT\",\n  \"b\": \"FLOAT\"}",
		`{"x":1}`:                 "{\n  \"a\": \"FLOAT\",\n  \"b\": \"FLOAT\",\n  \"x\":1}",
		"{\n \"a\": \"FLOAT\"\n}": "{\n \"b\": \"FLOAT\",\n \"a\": \"FLOAT\"\n}",
	} {
		got, err := AddEntries([]byte(in), copies)
		require.NoError(t, err, in)
		assert.Equal(t, want, string(got))
		assert.True(t, json.Valid(got), "%s", got)
	}
	got, err := AddEntries([]byte(`{"a":"FLOAT","b":"FLOAT"}`), copies)
	require.NoError(t, err)
	assert.Nil(t, got)
	_, err = AddEntries([]byte(`{"a":"W8A8"}`), copies)
	require.ErrorIs(t, err, ErrConflict)
	_, err = AddEntries([]byte(`[]`), copies)
	require.Error(t, err)
}
