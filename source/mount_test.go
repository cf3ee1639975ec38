package source_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/demo"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/runtime/tokenizer"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// memory is a source whose files are in memory.
type memory struct {
	name  string
	files map[string][]byte
	err   error // of every read of a shard
}

func load(t *testing.T, name, dir string) *memory {
	m := &memory{name: name, files: map[string][]byte{}}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		m.files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
	}
	return m
}

func (m *memory) entry(name string) source.Entry {
	return source.Entry{Name: name, Size: int64(len(m.files[name])), Version: "1"}
}

func (m *memory) Name() string           { return m.name }
func (m *memory) Pinned() (string, bool) { return "", false }

func (m *memory) List(context.Context) (out []source.Entry, err error) {
	for n := range m.files {
		out = append(out, m.entry(n))
	}
	return out, nil
}

func (m *memory) Open(_ context.Context, name string) (source.File, error) {
	f := source.Bytes(m.entry(name), m.files[name])
	if m.err != nil {
		return failing{f, m.err}, nil
	}
	return f, nil
}

func (m *memory) ReadSmall(_ context.Context, name string, _ int64) ([]byte, error) {
	return m.files[name], nil
}

type failing struct {
	source.File
	err error
}

func (f failing) ReadAt(context.Context, []byte, int64) (int, error) { return 0, f.err }

func model(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), demo.Name)
	require.NoError(t, demo.Extract(dir))
	return dir
}

// TestMountedIsAFolder: what takes the name of a folder takes that of a mounted
// source, and makes the same of it.
func TestMountedIsAFolder(t *testing.T) {
	dir := model(t)
	m := load(t, "mem://org/nano@1", dir)
	unmount, err := source.Mount(t.Context(), m)
	require.NoError(t, err)
	defer unmount()

	cfg, err := glm.LoadConfig(m.name)
	require.NoError(t, err)
	assert.NotEmpty(t, cfg.Table())
	_, err = tokenizer.Load(m.name)
	require.NoError(t, err)
	_, err = tokenizer.Load(filepath.Join(m.name, "tokenizer.json"))
	require.NoError(t, err)
	sum, n, err := safetensors.HashFile(filepath.Join(m.name, "config.json"))
	require.NoError(t, err)
	want, size, err := safetensors.HashFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	assert.Equal(t, []any{want, size}, []any{sum, n})

	a, b := filepath.Join(t.TempDir(), "local"), filepath.Join(t.TempDir(), "mounted")
	convertDir(t, dir, a)
	convertDir(t, m.name, b)
	assertSameFolder(t, a, b)
}

func convertDir(t *testing.T, src, dst string) {
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	p, err := quant.NewPlan(c, layout.W8A8, "", quant.Options{})
	require.NoError(t, err)
	_, err = convert.Run(t.Context(), p, c, dst, convert.Options{})
	require.NoError(t, err)
}

func assertSameFolder(t *testing.T, a, b string) {
	x, y := testkit.Result(t, a), testkit.Result(t, b)
	require.NotEmpty(t, x)
	for n := range x {
		assert.True(t, x[n] == y[n], "%s differs", n)
	}
}

func TestMountErrors(t *testing.T) {
	m := load(t, "mem://org/nano@1", model(t))
	unmount, err := source.Mount(t.Context(), m)
	require.NoError(t, err)
	_, err = source.Mount(t.Context(), m)
	require.ErrorIs(t, err, fs.ErrExist)

	_, err = fsx.ReadIn(m.name, "absent.json", 10)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Contains(t, err.Error(), "mem://org/nano@1/absent.json")
	_, err = fsx.ReadIn(m.name, "config.json", 10)
	require.ErrorIs(t, err, fsx.ErrTooLarge)

	for _, test := range []struct {
		name string
		kind error
		want error
	}{
		{"network", source.ErrNetwork, safetensors.ErrIO},
		{"busy", source.ErrBusy, safetensors.ErrIO},
	} {
		t.Run(test.name, func(t *testing.T) {
			m.err = &source.Error{Kind: test.kind, Where: m.name, Reason: "does not answer"}
			_, err := safetensors.OpenDirOptions(m.name, safetensors.Options{AllErrors: true})
			require.ErrorIs(t, err, test.kind, "no problem of the checkpoint, whatever the options")
			require.ErrorIs(t, err, test.want)
		})
	}
	unmount()
	_, err = safetensors.OpenDir(m.name)
	require.ErrorIs(t, err, safetensors.ErrNotFound)
}

func TestHandleReads(t *testing.T) {
	m := &memory{name: "mem://one@1", files: map[string][]byte{"a": []byte("abcdefg"), "empty": nil}}
	unmount, err := source.Mount(t.Context(), m)
	require.NoError(t, err)
	defer unmount()
	for name, want := range m.files {
		f, err := fsx.OpenIn(m.name, name)
		require.NoError(t, err)
		got, err := io.ReadAll(f)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got))
		require.NoError(t, f.Close())
	}
}

func TestScheme(t *testing.T) {
	for text, want := range map[string]string{
		"hf://org/name": "hf", "hf-cache://org/name": "hf-cache", "https://host/": "https", "C:/models": "", "c://models": "", "models": "",
		"./hf://x": "", "HF://org/name": "", "": "", "://x": "",
	} {
		assert.Equal(t, want, source.Scheme(text), text)
	}
}
