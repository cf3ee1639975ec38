package mtp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

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
	require.NoError(t, r.Apply(context.Background()))
	return r
}

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

// noLinks is a file system without hard links.
type noLinks struct{ fsx.FS }

func (noLinks) Link(old, new string) error {
	return &os.LinkError{Op: "link", Old: old, New: new, Err: syscall.EXDEV}
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
