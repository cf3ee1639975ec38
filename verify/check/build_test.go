package check

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// The good checkpoints that tests damage. Results of quantize are made once.
var (
	madeMu sync.Mutex
	made   = map[string]string{}
	work   string
)

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "glmconv-check"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(work)
	os.Exit(code)
}

// good returns a private copy of a good checkpoint: "nano-glm5", or
// "nano-glm5 w4a8 ascend" for a result of quantize.
func good(t *testing.T, what string) string {
	t.Helper()
	f := strings.Fields(what)
	dir := testkit.Shared(t, "reference/"+f[0])
	if len(f) == 3 {
		madeMu.Lock()
		if made[what] == "" {
			tmp := converted(t, f[0], quant.Scheme(f[1]), quant.Format(f[2]), quant.Options{})
			keep := filepath.Join(work, strings.Join(f, "-"))
			require.NoError(t, os.Rename(tmp, keep))
			made[what] = keep
		}
		dir = made[what]
		madeMu.Unlock()
	}
	out := t.TempDir()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		from, to := filepath.Join(dir, e.Name()), filepath.Join(out, e.Name())
		if os.Link(from, to) == nil {
			continue
		}
		raw, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, raw, 0o644))
	}
	return out
}

// write replaces a file; never in place, the good ones are linked.
func write(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		require.ErrorIs(t, err, os.ErrNotExist)
	}
	require.NoError(t, os.WriteFile(path, raw, 0o644))
}

// quick is the file system without waiting for the disk.
type quick struct{ fsx.FS }

type quickFile struct{ fsx.File }

func (quickFile) Sync() error             { return nil }
func (quickFile) Preallocate(int64) error { return nil }
func (quick) SyncDir(string) error        { return nil }

func (q quick) Create(path string) (fsx.File, error) {
	f, err := q.FS.Create(path)
	return quickFile{f}, err
}

// tensor is one tensor in the hands of a mutation.
type tensor struct {
	safetensors.Spec
	data []byte
}

// retensor writes the checkpoint's weight files anew with every tensor passed
// through fn, which may change it, drop it (nil) or return several; the index
// follows, unless it is told to stay. The manifest goes: these mutations are
// about other tools' checkpoints as well.
func retensor(t *testing.T, dir string, fn func(x tensor) []tensor) { rewriteTensors(t, dir, true, fn) }

func rewriteTensors(t *testing.T, dir string, reindex bool, fn func(x tensor) []tensor) {
	t.Helper()
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	index := c.IndexName()
	byFile := map[string][]tensor{}
	total := int64(0)
	weightMap := map[string]string{}
	hit := false
	for _, x := range c.Tensors() {
		raw, err := io.ReadAll(c.Reader(x))
		require.NoError(t, err)
		before := safetensors.Spec{Name: x.Name, DType: x.DType, Shape: slices.Clone(x.Shape)}
		sum := append([]byte(nil), raw...)
		out := fn(tensor{before, raw})
		hit = hit || len(out) != 1 || out[0].Name != x.Name || out[0].DType != x.DType || !slices.Equal(out[0].Shape, x.Shape) || !slices.Equal(out[0].data, sum)
		for _, y := range out {
			byFile[x.File] = append(byFile[x.File], y)
			weightMap[y.Name] = x.File
			total += int64(len(y.data))
		}
	}
	require.NoError(t, c.Close())
	require.True(t, hit, "the mutation changed nothing")
	for name, list := range byFile {
		slices.SortStableFunc(list, func(a, b tensor) int { return b.DType.Bits() - a.DType.Bits() })
		specs := make([]safetensors.Spec, len(list))
		for i, x := range list {
			specs[i] = x.Spec
			require.Equal(t, x.Bytes(), int64(len(x.data)), x.Name)
		}
		plan, err := safetensors.PlanFile(name, specs, nil)
		require.NoError(t, err)
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
		w, err := safetensors.Create(quick{fsx.OS}, dir, plan)
		require.NoError(t, err)
		for _, x := range list {
			_, err := w.Write(x.data)
			require.NoError(t, err)
		}
		_, err = w.Commit()
		require.NoError(t, err)
	}
	_ = os.Remove(filepath.Join(dir, quant.ManifestName))
	if reindex && index != "" {
		require.NoError(t, safetensors.WriteIndex(quick{fsx.OS}, dir, index, weightMap, total))
	}
}

// one applies fn to the tensors whose name matches.
func one(match func(name string) bool, fn func(x tensor) []tensor) func(tensor) []tensor {
	return func(x tensor) []tensor {
		if !match(x.Name) {
			return []tensor{x}
		}
		return fn(x)
	}
}

func named(names ...string) func(string) bool {
	return func(n string) bool { return slices.Contains(names, n) }
}

func ending(suffix string) func(string) bool {
	return func(n string) bool { return strings.HasSuffix(n, suffix) }
}

func containing(part string) func(string) bool {
	return func(n string) bool { return strings.Contains(n, part) }
}

func drop(tensor) []tensor { return nil }

// retype reinterprets the bytes as another type of the same width.
func retype(d safetensors.DType) func(tensor) []tensor {
	return func(x tensor) []tensor { x.DType = d; return []tensor{x} }
}

// narrow turns F32 into BF16, widen BF16 into F32, round F32 to BF16 values.
func narrow(x tensor) []tensor {
	var out []byte
	for i := 0; i < len(x.data); i += 4 {
		out = append(out, x.data[i+2:i+4]...)
	}
	x.DType, x.data = safetensors.BF16, out
	return []tensor{x}
}

func widen(x tensor) []tensor {
	var out []byte
	for i := 0; i < len(x.data); i += 2 {
		out = append(out, 0, 0, x.data[i], x.data[i+1])
	}
	x.DType, x.data = safetensors.F32, out
	return []tensor{x}
}

func round(x tensor) []tensor {
	for i := 0; i < len(x.data); i += 4 {
		x.data[i], x.data[i+1] = 0, 0
	}
	return []tensor{x}
}

// quantise turns a BF16 matrix into codes of a type with a scale of the given
// columns beside it; the values do not matter.
func quantize(d safetensors.DType, scale string, sd safetensors.DType) func(tensor) []tensor {
	return func(x tensor) []tensor {
		if len(x.Shape) != 2 {
			return []tensor{x}
		}
		module := strings.TrimSuffix(x.Name, ".weight")
		s := tensor{safetensors.Spec{Name: module + "." + scale, DType: sd, Shape: []int64{x.Shape[0], 1}}, nil}
		for range x.Shape[0] {
			s.data = append(s.data, float(sd, 0.5)...)
		}
		x.DType, x.data = d, bytes.Repeat([]byte{1}, int(x.Shape[0]*x.Shape[1]))
		return []tensor{x, s}
	}
}

// float encodes a value of a float type, truncated.
func float(d safetensors.DType, v float32) []byte {
	b := math.Float32bits(v)
	if d == safetensors.BF16 {
		return []byte{byte(b >> 16), byte(b >> 24)}
	}
	return []byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)}
}

// put writes a value over the first element of a float tensor.
func put(v float32) func(tensor) []tensor {
	return func(x tensor) []tensor { copy(x.data, float(x.DType, v)); return []tensor{x} }
}

// reshape cuts the first dimension by one row.
func shorter(x tensor) []tensor {
	row := len(x.data) / int(x.Shape[0])
	x.Shape = slices.Clone(x.Shape)
	x.Shape[0]--
	x.data = x.data[:len(x.data)-row]
	return []tensor{x}
}

// edit changes a JSON file.
func edit(t *testing.T, dir, name string, fn func(m map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, name)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	m := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &m))
	fn(m)
	raw, err = json.MarshalIndent(m, "", "  ")
	require.NoError(t, err)
	write(t, path, raw)
	_ = os.Remove(filepath.Join(dir, quant.ManifestName))
}

func replace(t *testing.T, dir, name, text string) {
	t.Helper()
	write(t, filepath.Join(dir, name), []byte(text))
}

// shard returns the name of the first weight file.
func shard(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	require.NoError(t, err)
	require.NotEmpty(t, list)
	slices.Sort(list)
	return list[0]
}
