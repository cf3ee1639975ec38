package safetensors

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	upstream "github.com/nlpodyssey/safetensors"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/glmconv/glmconv/internal/fsx"
)

// miniRead is a reader of its own: encoding/json and slicing, nothing of the
// package. It returns the data of each tensor and the order of names.
func miniRead(t require.TestingT, file []byte) (data map[string][]byte, order []string, meta map[string]string) {
	n := binary.LittleEndian.Uint64(file)
	head := file[8 : 8+n]
	require.Zero(t, (8+n)%8, "data starts at a multiple of 8")
	require.Equal(t, byte('{'), head[0])
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(head, &fields))
	data = map[string][]byte{}
	for name, raw := range fields {
		if name == "__metadata__" {
			require.NoError(t, json.Unmarshal(raw, &meta))
			continue
		}
		var e struct {
			DataOffsets [2]int `json:"data_offsets"`
		}
		require.NoError(t, json.Unmarshal(raw, &e))
		data[name] = file[8+n:][e.DataOffsets[0]:e.DataOffsets[1]]
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	_, _ = dec.Token()
	for dec.More() {
		key, _ := dec.Token()
		var skip json.RawMessage
		require.NoError(t, dec.Decode(&skip))
		order = append(order, key.(string))
	}
	return data, order, meta
}

// writeAll writes a planned file with chosen bytes in chunks.
func writeAll(fsys fsx.FS, dir string, plan *FilePlan, data []byte, chunk int) (string, error) {
	w, err := Create(fsys, dir, plan)
	if err != nil {
		return "", err
	}
	for len(data) > 0 {
		n := min(chunk, len(data))
		if _, err := w.Write(data[:n]); err != nil {
			_ = w.Abort()
			return "", err
		}
		data = data[n:]
	}
	return w.Commit()
}

// TestWriteReadBack writes random files and reads them with the package, with
// upstream and with miniRead.
func TestWriteReadBack(t *testing.T) {
	dir := t.TempDir()
	types := rapid.SampledFrom([]DType{Bool, U8, I8, F8E5M2, F8E4M3, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64})
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringN(1, 30, 60), 0, 12, rapid.ID).Draw(rt, "names")
		var specs []Spec
		start := int64(0)
		for _, name := range names {
			s := Spec{name, types.Draw(rt, "type"), rapid.SliceOfN(rapid.Int64Range(0, 5), 0, 4).Draw(rt, "shape")}
			if !validName(name) || start%int64(s.DType.Bits()/8) != 0 {
				continue
			}
			start += s.Bytes()
			specs = append(specs, s)
		}
		meta := rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(rt, "meta")
		for k, v := range meta {
			if !validName(k) || !validName(v) {
				delete(meta, k)
			}
		}
		plan, err := PlanFile("x.safetensors", specs, meta)
		require.NoError(rt, err)
		again, err := PlanFile("x.safetensors", specs, meta)
		require.NoError(rt, err)
		require.Equal(rt, plan.Header(), again.Header())
		require.Equal(rt, plan.Tensors(), again.Tensors())
		data := rapid.SliceOfN(rapid.Byte(), int(start), int(start)).Draw(rt, "data")
		sum, err := writeAll(fsx.OS, dir, plan, data, rapid.IntRange(1, 100).Draw(rt, "chunk"))
		require.NoError(rt, err)

		path := filepath.Join(dir, "x.safetensors")
		file, err := os.ReadFile(path)
		require.NoError(rt, err)
		require.Len(rt, file, int(plan.Size))
		want := sha256.Sum256(file)
		require.Equal(rt, hex.EncodeToString(want[:]), sum)
		hash, size, err := HashFile(path)
		require.NoError(rt, err)
		require.Equal(rt, sum, hash)
		require.Equal(rt, plan.Size, size)

		f, err := OpenFile(path)
		require.NoError(rt, err)
		defer f.Close()
		st, err := upstream.Deserialize(patchDTypes(file))
		require.NoError(rt, err)
		mini, order, mmeta := miniRead(rt, file)
		require.Len(rt, mini, len(specs))
		require.Equal(rt, len(specs), st.Len())
		require.Equal(rt, meta, f.Metadata())
		if len(meta) > 0 {
			require.Equal(rt, meta, mmeta)
			require.Equal(rt, "__metadata__", order[0])
			order = order[1:]
		}
		for i, s := range specs {
			require.Equal(rt, s.Name, order[i])
			info, ok := f.Tensor(s.Name)
			require.True(rt, ok)
			require.Equal(rt, plan.Tensors()[i].Offset, info.Offset)
			require.Equal(rt, s.DType, info.DType)
			require.Equal(rt, append([]int64{}, s.Shape...), info.Shape)
			if info.DType.Bits() >= 8 && info.Size > 0 {
				require.Zero(rt, info.Offset%int64(info.DType.Bits()/8), "aligned in the file")
			}
			got := make([]byte, info.Size)
			require.NoError(rt, f.ReadTensor(info, 0, got))
			require.Equal(rt, mini[s.Name], got)
			tv, ok := st.Tensor(s.Name)
			require.True(rt, ok)
			require.Equal(rt, tv.Data(), got)
			require.Equal(rt, tv.Shape(), unsigned(s.Shape))
			require.True(rt, bytes.Equal(data[info.Offset-f.DataOffset():][:info.Size], got))
		}
	})
}

// validName leaves out what PlanFile refuses, and what patchDTypes mistakes.
func validName(s string) bool {
	return s != metadataKey && !strings.Contains(s, "F8_") && strings.ToValidUTF8(s, "") == s
}

// TestHeaderText pins the bytes of a header.
func TestHeaderText(t *testing.T) {
	plan, err := PlanFile("x.safetensors", []Spec{{"b<&>\"\u2028é", F32, []int64{2, 3}}, {"a", BF16, nil}, {"z", U8, []int64{0}}}, nil)
	require.NoError(t, err)
	text := `{"__metadata__":{"format":"pt"},"b<&>\"\u2028é":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},` +
		`"a":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},"z":{"dtype":"U8","shape":[0],"data_offsets":[26,26]}}`
	assert.Equal(t, text+strings.Repeat(" ", -len(text)&7), string(plan.Header()[8:]))
	assert.EqualValues(t, plan.HeaderSize()-8, binary.LittleEndian.Uint64(plan.Header()))
	assert.EqualValues(t, plan.HeaderSize()+26, plan.Size)
	assert.EqualValues(t, plan.HeaderSize()+24, plan.Tensors()[1].Offset)

	plan, err = PlanFile("x.safetensors", nil, map[string]string{})
	require.NoError(t, err)
	assert.Equal(t, "{}      ", string(plan.Header()[8:]))
	plan, err = PlanFile("x.safetensors", nil, map[string]string{"b": "2", "a": "1"})
	require.NoError(t, err)
	assert.Equal(t, `{"__metadata__":{"a":"1","b":"2"}}      `, string(plan.Header()[8:]))
}

func TestPlanRefuses(t *testing.T) {
	one := []int64{1}
	for _, c := range []struct {
		what   string
		file   string
		specs  []Spec
		meta   map[string]string
		kind   error
		reason string
	}{
		{"no name", "", nil, nil, ErrSpec, "not a name"},
		{"path", "a/b", nil, nil, ErrSpec, "not a name"},
		{"temporary", ".a.glmconv-tmp", nil, nil, ErrSpec, "not a name"},
		{"duplicate", "x", []Spec{{"a", U8, one}, {"b", U8, one}, {"a", U8, one}}, nil, ErrDuplicate, "tensor a is planned twice"},
		{"empty tensor name", "x", []Spec{{"", U8, one}}, nil, ErrSpec, "must not have"},
		{"metadata as a name", "x", []Spec{{"__metadata__", U8, one}}, nil, ErrSpec, "must not have"},
		{"UTF-8", "x", []Spec{{"a\xff", U8, one}}, nil, ErrSpec, "UTF-8"},
		{"long name", "x", []Spec{{strings.Repeat("x", 4097), U8, one}}, nil, ErrSpec, "4,097"},
		{"no dtype", "x", []Spec{{"a", Invalid, one}}, nil, ErrSpec, "no dtype"},
		{"wrong dtype", "x", []Spec{{"a", 200, one}}, nil, ErrSpec, "no dtype"},
		{"negative", "x", []Spec{{"a", U8, []int64{-1}}}, nil, ErrSpec, "[-1]"},
		{"overflow", "x", []Spec{{"a", U8, []int64{1 << 40, 1 << 40}}}, nil, ErrSpec, "impossible"},
		{"overflow beside a zero", "x", []Spec{{"a", U8, []int64{1 << 40, 1 << 40, 0}}}, nil, ErrSpec, "impossible"},
		{"half bytes", "x", []Spec{{"a", F4, []int64{3}}}, nil, ErrSpec, "impossible"},
		{"rank", "x", []Spec{{"a", U8, make([]int64, 9)}}, nil, ErrSpec, "9 dimensions"},
		{"misaligned", "x", []Spec{{"a", U8, one}, {"b", F32, one}}, nil, ErrSpec, "tensor b would start at data byte 1, not a multiple of its element size 4"},
		{"too large", "x", []Spec{{"a", U8, []int64{1 << 56}}, {"b", U8, []int64{1 << 56}}, {"c", U8, []int64{1 << 56}}}, nil, ErrSpec,
			"tensor c makes the file larger"},
		{"metadata UTF-8", "x", nil, map[string]string{"a": "\xff"}, ErrSpec, "UTF-8"},
		{"header over 100 MB", "x", nil, map[string]string{"a": strings.Repeat("x", MaxHeaderSize)}, ErrHeaderTooLarge, "100,000,0"},
		{"too many", "x", make([]Spec, MaxTensors+1), nil, ErrHeaderTooLarge, "1,000,001"},
	} {
		p, err := PlanFile(c.file, c.specs, c.meta)
		require.Nil(t, p, c.what)
		require.ErrorIs(t, err, c.kind, c.what)
		require.ErrorContains(t, err, c.reason, c.what)
	}
}

func testPlan(t *testing.T) (*FilePlan, []byte) {
	plan, err := PlanFile("m.safetensors", []Spec{{"a", U8, []int64{1000}}, {"b", U8, []int64{500}}}, nil)
	require.NoError(t, err)
	data := make([]byte, 1500)
	for i := range data {
		data[i] = byte(i * 7)
	}
	return plan, data
}

func TestWriterMisuse(t *testing.T) {
	dir := t.TempDir()
	plan, data := testPlan(t)
	path := filepath.Join(dir, plan.Name)

	w, err := Create(fsx.OS, dir, plan)
	require.NoError(t, err)
	assert.Equal(t, path, w.Path())
	_, err = w.Write(data[:1200])
	require.NoError(t, err)
	assert.EqualValues(t, plan.HeaderSize()+1200, w.Written())
	_, err = w.Commit()
	require.ErrorIs(t, err, ErrSpec)
	require.ErrorContains(t, err, "tensor b is incomplete")
	_, err = w.Commit()
	require.Error(t, err)
	require.NoError(t, w.Abort())
	_, err = w.Write(data)
	require.Error(t, err)

	w, err = Create(fsx.OS, dir, plan)
	require.NoError(t, err)
	_, err = w.Write(data[:1499])
	require.NoError(t, err)
	n, err := w.Write(data[:2])
	assert.Zero(t, n)
	require.ErrorIs(t, err, ErrSpec)
	_, err = w.Write(data[:1])
	require.ErrorIs(t, err, ErrSpec, "a failure stays")
	_, err = w.Commit()
	require.ErrorIs(t, err, ErrSpec)

	w, err = Create(fsx.OS, dir, plan)
	require.NoError(t, err)
	require.NoError(t, w.Abort())
	require.NoError(t, w.Abort())

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)

	_, err = Create(fsx.OS, filepath.Join(dir, "absent"), plan)
	require.ErrorIs(t, err, ErrIO)
	require.ErrorIs(t, err, os.ErrNotExist)

	// A temporary file of a killed run is in nobody's way.
	require.NoError(t, os.WriteFile(fsx.TempName(path), make([]byte, 9999), 0o644))
	_, err = writeAll(fsx.OS, dir, plan, data, 100)
	require.NoError(t, err)
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, plan.Size, st.Size())
	w, err = Create(fsx.OS, dir, plan)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
	require.NoError(t, w.Abort(), "does nothing after Commit")
	_, err = w.Commit()
	require.Error(t, err)
	_, err = OpenFile(path)
	require.NoError(t, err)
}

func TestEncodeIndex(t *testing.T) {
	got, err := EncodeIndex([]IndexEntry{{"b<>&", two}, {"a", one}}, 42)
	require.NoError(t, err)
	assert.Equal(t, `{
  "metadata": {
    "total_size": 42
  },
  "weight_map": {
    "a": "`+one+`",
    "b<>&": "`+two+`"
  }
}
`, string(got))
	var size, other IndexSize
	require.NoError(t, size.Add(two, []Spec{{"b<>&", U8, []int64{40}}}))
	require.NoError(t, other.Add(one, []Spec{{"a", U8, []int64{2}}}))
	size.Join(&other)
	assert.False(t, size.Repeats())
	assert.EqualValues(t, len(got), size.Bytes())
	empty, err := EncodeIndex(nil, 0)
	require.NoError(t, err)
	assert.EqualValues(t, len(empty), new(IndexSize).Bytes())
	idx, err := parseIndex(got, "x")
	require.NoError(t, err)
	assert.Equal(t, &index{entries: []IndexEntry{{"a", one}, {"b<>&", two}}, totalSize: 42, hasTotal: true}, idx)

	got, err = EncodeIndex(nil, 0)
	require.NoError(t, err)
	_, err = parseIndex(got, "x")
	require.NoError(t, err)
	_, err = EncodeIndex([]IndexEntry{{"a", "../x.safetensors"}}, 0)
	require.ErrorIs(t, err, ErrPath)
	_, err = EncodeIndex([]IndexEntry{{"a", one}, {"b", one}, {"a", two}}, 0)
	require.ErrorIs(t, err, ErrDuplicate)
	require.NoError(t, size.Add(two, []Spec{{"a", U8, nil}}))
	assert.True(t, size.Repeats())
	require.ErrorIs(t, size.Add("../x.safetensors", []Spec{{"c", U8, nil}}), ErrPath)
	require.ErrorIs(t, size.Add(two, []Spec{{"\xff", U8, nil}}), ErrInvalidUTF8)
	_, err = EncodeIndex([]IndexEntry{{"a", one}, {"b", one}, {"a", two}}, 0)
	require.ErrorIs(t, err, ErrDuplicate)
	_, err = EncodeIndex([]IndexEntry{{"a\xff", one}}, 0)
	require.ErrorIs(t, err, ErrInvalidUTF8)
}

func TestHashFile(t *testing.T) {
	dir := t.TempDir()
	sum, size, err := HashFile(putFile(t, dir, "x", []byte("abc")))
	require.NoError(t, err)
	assert.Equal(t, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", sum)
	assert.EqualValues(t, 3, size)
	_, _, err = HashFile(filepath.Join(dir, "y"))
	require.ErrorIs(t, err, ErrNotFound)
	_, _, err = HashFile(dir)
	require.ErrorIs(t, err, ErrPath)
}

// TestPutAt writes pieces in any order from several goroutines and hashes them
// in the order of the file.
func TestPutAt(t *testing.T) {
	const size = 1 << 20
	plan, err := PlanFile("m.safetensors", []Spec{{"a", U8, []int64{size}}, {"b", U8, []int64{8}}}, nil)
	require.NoError(t, err)
	data := bytes.Repeat([]byte("0123456"), size)[:size+8]
	start := plan.HeaderSize()
	want := sha256.Sum256(append(bytes.Clone(plan.Header()), data...))
	const step = 10_007
	put := func(w *Writer) {
		var g errgroup.Group
		for off := 0; off < size; off += step {
			g.Go(func() error { return w.PutAt(data[off:min(off+step, size)], start+int64(off)) })
		}
		require.NoError(t, g.Wait())
	}

	dir := t.TempDir()
	w, err := Create(fsx.OS, dir, plan)
	require.NoError(t, err)
	put(w)
	for off := 0; off < size; off += step {
		require.NoError(t, w.Hash(data[off:min(off+step, size)]))
	}
	_, err = w.Write(data[size:])
	require.NoError(t, err)
	require.ErrorIs(t, w.PutAt(data[:9], start+size), ErrSpec, "beyond the plan")
	require.ErrorIs(t, w.PutAt(data[:1], -1), ErrSpec)
	sum, err := w.Commit()
	require.NoError(t, err)
	assert.Equal(t, hex.EncodeToString(want[:]), sum)
	got, err := os.ReadFile(filepath.Join(dir, plan.Name))
	require.NoError(t, err)
	assert.Equal(t, sha256.Sum256(got), want)

	t.Run("put and not hashed", func(t *testing.T) {
		w, err := Create(fsx.OS, t.TempDir(), plan)
		require.NoError(t, err)
		put(w)
		require.NoError(t, w.PutAt(data[size:], start+size))
		_, err = w.Commit()
		require.ErrorIs(t, err, ErrSpec)
	})
	t.Run("hashed and not put", func(t *testing.T) {
		w, err := Create(fsx.OS, t.TempDir(), plan)
		require.NoError(t, err)
		require.NoError(t, w.Hash(data))
		require.ErrorIs(t, w.Hash(data[:1]), ErrSpec, "beyond the plan")
		_, err = w.Commit()
		require.ErrorIs(t, err, ErrSpec)
	})
	t.Run("the disk is full", func(t *testing.T) {
		fsys := &fsx.Faulty{FS: fsx.OS, FailAt: 4, Err: syscall.ENOSPC, Short: true}
		w, err := Create(fsys, t.TempDir(), plan)
		require.NoError(t, err)
		err = w.PutAt(data[:size], start)
		require.ErrorIs(t, err, syscall.ENOSPC)
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, []any{"a", start}, []any{e.Tensor, e.Offset})
		require.NoError(t, w.Abort())
	})
}

// TestWriterIsWriter keeps io.Copy working.
func TestWriterIsWriter(t *testing.T) {
	plan, data := testPlan(t)
	dir := t.TempDir()
	w, err := Create(fsx.OS, dir, plan)
	require.NoError(t, err)
	n, err := io.Copy(w, bytes.NewReader(data))
	require.NoError(t, err)
	assert.EqualValues(t, 1500, n)
	_, err = w.Commit()
	require.NoError(t, err)
}
