package mtp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/safetensors"
)

// clone copies a reference checkpoint into a fresh directory.
func clone(t testing.TB, name string) string {
	t.Helper()
	src := testkit.Shared(t, "reference/"+name)
	dst := filepath.Join(t.TempDir(), filepath.Base(name))
	require.NoError(t, os.Mkdir(dst, 0o755))
	copyDir(t, src, dst)
	return dst
}

func copyDir(t testing.TB, src, dst string) {
	t.Helper()
	entries, err := os.ReadDir(src)
	require.NoError(t, err)
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(src, e.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dst, e.Name()), raw, 0o644))
	}
}

// snapshot reads every file of a directory.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(raw)
		return err
	}))
	return out
}

// weights reads every tensor of a checkpoint, strictly by its index.
func weights(t testing.TB, dir string) map[string]string {
	t.Helper()
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	for _, p := range c.Problems() {
		require.Contains(t, []safetensors.ProblemKind{safetensors.ProblemLeftover, safetensors.ProblemUnlisted}, p.Kind, p.Detail)
	}
	out := map[string]string{}
	for _, x := range c.Tensors() {
		raw, err := io.ReadAll(c.Reader(x))
		require.NoError(t, err)
		out[x.Name] = fmt.Sprint(x.DType, x.Shape, string(raw))
	}
	return out
}

func apply(t testing.TB, dir string, o Options) *Remap {
	t.Helper()
	r, err := NewRemap(dir, o)
	require.NoError(t, err)
	require.NoError(t, r.Apply(context.Background(), fsx.OS, nil))
	return r
}

const (
	copyEmbed = "model.layers.3.embed_tokens.weight"
	copyHead  = "model.layers.3.shared_head.head.weight"
)

func checkResult(t *testing.T, before, after map[string]string) {
	t.Helper()
	want := maps.Clone(before)
	want[copyEmbed] = before["model.embed_tokens.weight"]
	want[copyHead] = before["lm_head.weight"]
	require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(after)))
	for name := range want {
		require.True(t, want[name] == after[name], "%s differs", name)
	}
}

func totalSize(t *testing.T, dir, name string) (total int64, files map[string]string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	var x struct {
		Metadata struct {
			Total int64 `json:"total_size"`
		} `json:"metadata"`
		Map map[string]string `json:"weight_map"`
	}
	require.NoError(t, json.Unmarshal(raw, &x))
	return x.Metadata.Total, x.Map
}

func TestInPlace(t *testing.T) {
	dir := clone(t, "nano-glm5")
	files, before := snapshot(t, dir), weights(t, dir)
	was, _ := totalSize(t, dir, safetensors.IndexName)

	var seen int64
	r, err := NewRemap(dir, Options{Layer: -1})
	require.NoError(t, err)
	assert.Equal(t, 3, r.Layer)
	assert.False(t, r.Done)
	require.NoError(t, r.Apply(context.Background(), fsx.OS, func(done, total int64) {
		assert.GreaterOrEqual(t, done, seen)
		seen = done
		assert.Equal(t, r.Bytes, total)
	}))
	assert.Equal(t, r.Bytes, seen)

	after := weights(t, dir)
	checkResult(t, before, after)
	total, m := totalSize(t, dir, safetensors.IndexName)
	assert.Equal(t, was+r.Bytes, total)
	assert.Equal(t, DefaultFile, m[copyEmbed])
	assert.Equal(t, DefaultFile, m[copyHead])

	now := snapshot(t, dir)
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
	require.Equal(t, now, snapshot(t, dir))

	require.NoError(t, Undo(dir, fsx.OS))
	require.Equal(t, files, snapshot(t, dir))
	require.ErrorIs(t, Undo(dir, fsx.OS), ErrNoUndo)
}

func TestOut(t *testing.T) {
	dir := clone(t, "nano-glm5")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "extra"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "extra", "note.txt"), []byte("x"), 0o644))
	files, before := snapshot(t, dir), weights(t, dir)
	out := filepath.Join(t.TempDir(), "result")
	apply(t, dir, Options{Layer: -1, Out: out})
	require.Equal(t, files, snapshot(t, dir), "the source changed")
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
	once := snapshot(t, out)
	apply(t, dir, Options{Layer: -1, Out: out})
	require.Equal(t, once, snapshot(t, out))

	// A directory with something else in it is refused.
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "mine.txt"), nil, 0o644))
	r, err := NewRemap(dir, Options{Layer: -1, Out: other})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background(), fsx.OS, nil), ErrConflict)
	r, err = NewRemap(dir, Options{Layer: -1, Out: filepath.Join(dir, "inside")})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background(), fsx.OS, nil), ErrConflict)
}

// noLinks is a file system without hard links.
type noLinks struct{ fsx.FS }

func (noLinks) Link(old, new string) error {
	return &os.LinkError{Op: "link", Old: old, New: new, Err: syscall.EXDEV}
}

func TestOutWithoutLinks(t *testing.T) {
	dir := clone(t, "nano-glm5")
	before := weights(t, dir)
	out := filepath.Join(t.TempDir(), "result")
	r, err := NewRemap(dir, Options{Layer: -1, Out: out})
	require.NoError(t, err)
	require.NoError(t, r.Apply(context.Background(), noLinks{fsx.OS}, nil))
	checkResult(t, before, weights(t, out))
}

// rewrite writes the tensors of a checkpoint anew: into the given files, with
// or without an index, under changed names, dtypes and shapes.
func rewrite(t testing.TB, dir string, index string, file func(name string) string) {
	t.Helper()
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	groups := map[string][]safetensors.Info{}
	m := map[string]string{}
	total := int64(0)
	for _, x := range c.Tensors() {
		if f := file(x.Name); f != "" {
			groups[f] = append(groups[f], x)
			m[x.Name] = f
			total += x.Size
		}
	}
	tmp := t.TempDir()
	for name, list := range groups {
		specs := []safetensors.Spec{}
		for _, x := range list {
			specs = append(specs, safetensors.Spec{Name: x.Name, DType: x.DType, Shape: x.Shape})
		}
		plan, err := safetensors.PlanFile(name, specs, nil)
		require.NoError(t, err)
		w, err := safetensors.Create(fsx.OS, tmp, plan)
		require.NoError(t, err)
		for _, x := range list {
			_, err := io.Copy(w, c.Reader(x))
			require.NoError(t, err)
		}
		_, err = w.Commit()
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
	old, err := filepath.Glob(filepath.Join(dir, "*.safetensors*"))
	require.NoError(t, err)
	for _, f := range old {
		require.NoError(t, os.Remove(f))
	}
	copyDir(t, tmp, dir)
	if index != "" {
		require.NoError(t, safetensors.WriteIndex(fsx.OS, dir, index, m, total))
	}
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
			files, before := snapshot(t, dir), weights(t, dir)
			apply(t, dir, Options{Layer: -1})
			checkResult(t, before, weights(t, dir))
			assert.FileExists(t, filepath.Join(dir, safetensors.IndexName))
			require.NoError(t, Undo(dir, fsx.OS))
			require.Equal(t, files, snapshot(t, dir))
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
	files := snapshot(t, dir)

	r := apply(t, dir, Options{Layer: -1})
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
	require.NoError(t, Undo(dir, fsx.OS))
	require.Equal(t, files, snapshot(t, dir))
}

func TestNothingToDo(t *testing.T) {
	dir := clone(t, "nano-glm4moe")
	files := snapshot(t, dir)
	r := apply(t, dir, Options{Layer: -1})
	assert.True(t, r.Done)
	require.Equal(t, files, snapshot(t, dir))
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
	files := snapshot(t, dir)

	apply(t, dir, Options{Layer: -1})
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
	require.NoError(t, Undo(dir, fsx.OS))
	require.Equal(t, files, snapshot(t, dir))

	// Rotated checkpoints are refused.
	desc["is_rot_used"] = true
	text, err = json.Marshal(desc)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o644))
	_, err = NewRemap(dir, Options{Layer: -1})
	require.ErrorIs(t, err, ErrRotated)
}

func TestAddEntries(t *testing.T) {
	copies := []Copy{{Name: "a"}, {Name: "b"}}
	for in, want := range map[string]string{
		`{}`:                      "{\n  \"a\": \"FLOAT\",\n  \"b\": \"FLOAT\"}",
		`{"x":1}`:                 "{\n  \"a\": \"FLOAT\",\n  \"b\": \"FLOAT\",\n  \"x\":1}",
		"{\n \"a\": \"FLOAT\"\n}": "{\n \"b\": \"FLOAT\",\n \"a\": \"FLOAT\"\n}",
	} {
		got, err := addEntries([]byte(in), copies)
		require.NoError(t, err, in)
		assert.Equal(t, want, string(got))
		assert.True(t, json.Valid(got), "%s", got)
	}
	got, err := addEntries([]byte(`{"a":"FLOAT","b":"FLOAT"}`), copies)
	require.NoError(t, err)
	assert.Nil(t, got)
	_, err = addEntries([]byte(`{"a":"W8A8"}`), copies)
	require.ErrorIs(t, err, ErrConflict)
	_, err = addEntries([]byte(`[]`), copies)
	require.Error(t, err)
}

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
		"family without MTP": {"nano-glm45v", Options{Layer: -1}, nil, ErrNoMTP},
		"another layer":      {"nano-glm5", Options{Layer: 78}, nil, ErrLayer},
		"trunk layer":        {"nano-glm5", Options{Layer: 2}, nil, ErrLayer},
		"layer not stored": {"nano-glm5", Options{Layer: -1}, func(dir string) {
			rewrite(t, dir, safetensors.IndexName, func(n string) string {
				if strings.HasPrefix(n, "model.layers.3.") {
					return ""
				}
				return keepAll(n)
			})
		}, ErrNoMTP},
		"no head": {"nano-glm5", Options{Layer: -1}, func(dir string) {
			rewrite(t, dir, safetensors.IndexName, func(n string) string {
				if n == "lm_head.weight" {
					return ""
				}
				return keepAll(n)
			})
		}, ErrMissing},
		"vocabulary of another model": {"nano-glm5", Options{Layer: -1}, func(dir string) { edit(dir, `"vocab_size": 1088`, `"vocab_size": 1089`) }, ErrShape},
		"name taken":                  {"nano-glm5", Options{Layer: -1, File: "model"}, nil, ErrConflict},
		"name with a path":            {"nano-glm5", Options{Layer: -1, File: "../x.safetensors"}, nil, ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			dir := clone(t, tc.model)
			if tc.damage != nil {
				tc.damage(dir)
			}
			files := snapshot(t, dir)
			_, err := NewRemap(dir, tc.opts)
			require.ErrorIs(t, err, tc.kind)
			assert.NotContains(t, err.Error(), "\n")
			assert.Equal(t, files, snapshot(t, dir))
		})
	}
}

func TestQuantisedEmbedding(t *testing.T) {
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
	_, err = NewRemap(dir, Options{Layer: -1})
	require.ErrorIs(t, err, ErrQuantized)
}

func TestFileInTheWay(t *testing.T) {
	dir := clone(t, "nano-glm5")
	path := filepath.Join(dir, DefaultFile)
	require.NoError(t, os.WriteFile(path, []byte("not safetensors"), 0o644))
	r, err := NewRemap(dir, Options{Layer: -1})
	require.NoError(t, err)
	files := snapshot(t, dir)
	require.ErrorIs(t, r.Apply(context.Background(), fsx.OS, nil), ErrConflict)
	require.Equal(t, files, snapshot(t, dir))

	// One with the right names and other bytes is refused as well.
	require.NoError(t, os.Remove(path))
	apply(t, dir, Options{Layer: -1})
	done := snapshot(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, safetensors.IndexName), []byte(files[safetensors.IndexName]), 0o644))
	raw := []byte(done[DefaultFile])
	raw[len(raw)-1] ^= 1
	require.NoError(t, os.WriteFile(path, raw, 0o644))
	r, err = NewRemap(dir, Options{Layer: -1})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background(), fsx.OS, nil), ErrConflict)

	// And one that is whole is taken over: a run was stopped before the index.
	raw[len(raw)-1] ^= 1
	require.NoError(t, os.WriteFile(path, raw, 0o644))
	apply(t, dir, Options{Layer: -1})
	require.Equal(t, done, snapshot(t, dir))
}

func TestUndoKeepsLaterChanges(t *testing.T) {
	dir := clone(t, "nano-glm5")
	apply(t, dir, Options{Layer: -1})
	path := filepath.Join(dir, safetensors.IndexName)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	x, err := parseIndex("", raw)
	require.NoError(t, err)
	x.WeightMap["added.later"] = "model-00001-of-00002.safetensors"
	raw, err = x.encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o644))
	files := snapshot(t, dir)
	require.ErrorIs(t, Undo(dir, fsx.OS), ErrChanged)
	require.Equal(t, files, snapshot(t, dir))
}

func TestFinishedConversion(t *testing.T) {
	dir := clone(t, "nano-glm5")
	before := weights(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, manifestName), []byte("{}"), 0o644))
	files := snapshot(t, dir)
	r, err := NewRemap(dir, Options{Layer: -1})
	require.NoError(t, err)
	require.ErrorIs(t, r.Apply(context.Background(), fsx.OS, nil), ErrConflict)
	require.Equal(t, files, snapshot(t, dir))
	out := filepath.Join(t.TempDir(), "result")
	apply(t, dir, Options{Layer: -1, Out: out})
	checkResult(t, before, weights(t, out))
	assert.NoFileExists(t, filepath.Join(out, manifestName))
}
