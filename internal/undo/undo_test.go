package undo_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/internal/undo"
)

func text(s string) *string { return &s }

// Both forms that earlier versions wrote are read, and written in the same way.
func TestForms(t *testing.T) {
	for name, c := range map[string]struct {
		raw  string
		want undo.Receipt
	}{
		"kept files": {`{"former":["a.safetensors"],"created":["b.safetensors"],"done":true}`,
			undo.Receipt{Kept: []string{"a.safetensors"}, Created: []string{"b.safetensors"}, Done: true}},
		"no file kept": {`{"former":null,"created":["b"],"done":false}`, undo.Receipt{Created: []string{"b"}}},
		"texts": {`{"former":{"config.json":"{}","model.safetensors.index.json":null},"created":["mtp.safetensors"]}`,
			undo.Receipt{Texts: map[string]*string{"config.json": text("{}"), "model.safetensors.index.json": nil}, Created: []string{"mtp.safetensors"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var got undo.Receipt
			require.NoError(t, json.Unmarshal([]byte(c.raw), &got))
			assert.Equal(t, c.want, got)
			raw, err := json.Marshal(&got)
			require.NoError(t, err)
			assert.JSONEq(t, c.raw, string(raw))
			packed, err := got.Pack()
			require.NoError(t, err)
			again, err := undo.Unpack(packed)
			require.NoError(t, err)
			assert.Equal(t, c.want, *again)
		})
	}
}

// files makes a folder and returns a function that tells what is in it.
func files(t *testing.T, of map[string]string) (dir string, now func() map[string]string) {
	t.Helper()
	dir = t.TempDir()
	for name, s := range of {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(s), 0o644))
	}
	return dir, func() map[string]string { return testkit.Files(t, dir) }
}

// TestBack takes a change back, interrupted after every operation: then the
// receipt is still there, not as one of a completed change, and a second attempt
// completes it.
func TestBack(t *testing.T) {
	changed := map[string]string{"a": "new a", "b": "new b", "c": "kept", undo.StateDir + "/old/a": "a", undo.StateDir + "/old/gone": "gone", undo.StateDir + "/new/x": "x"}
	want := map[string]string{"a": "a", "gone": "gone", "c": "kept"}
	for n := 1; ; n++ {
		dir, now := files(t, changed)
		require.NoError(t, undo.Write(fsx.OS, dir, &undo.Receipt{Kept: []string{"a", "gone"}, Created: []string{"b"}, Done: true}))
		faulty := &fsx.Faulty{FS: fsx.OS, FailAt: n, Err: syscall.EIO}
		r, err := undo.Read(fsx.OS, dir)
		require.NoError(t, err)
		err = undo.Back(faulty, dir, r)
		if !faulty.Hit() {
			require.NoError(t, err)
			require.Equal(t, want, now())
			require.Greater(t, n, 10)
			return
		}
		require.Error(t, err, "operation %d", n)
		if r, err := undo.Read(fsx.OS, dir); err == nil {
			require.NoError(t, undo.Back(fsx.OS, dir, r), "operation %d", n)
		} else {
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, undo.Clear(fsx.OS, dir))
		}
		require.Equal(t, want, now(), "operation %d", n)
	}
}

// TestRestoreTexts: an index gets its text after everything that it names.
func TestRestoreTexts(t *testing.T) {
	dir, now := files(t, map[string]string{"model.safetensors.index.json": "new", "quant_model_description.json": "new", "mtp.safetensors": "x", "other": "new"})
	r := &undo.Receipt{Texts: map[string]*string{"model.safetensors.index.json": text("old index"), "quant_model_description.json": text("old"), "other": nil}, Created: []string{"mtp.safetensors"}}
	faulty := &fsx.Faulty{FS: fsx.OS}
	require.NoError(t, r.Restore(faulty, dir))
	require.Equal(t, map[string]string{"model.safetensors.index.json": "old index", "quant_model_description.json": "old"}, now())
	var order []string
	for _, op := range faulty.Ops() {
		for _, name := range []string{"quant_model_description.json", "model.safetensors.index.json", "mtp.safetensors"} {
			if op == "rename "+name || op == "remove "+name {
				order = append(order, name)
			}
		}
	}
	require.Equal(t, []string{"quant_model_description.json", "model.safetensors.index.json", "mtp.safetensors"}, order, "%q", faulty.Ops())
	require.NoError(t, r.Restore(fsx.OS, dir), "it can be repeated")
}

// Names in a receipt stay in the folder.
func TestNamesThatLeave(t *testing.T) {
	for _, name := range []string{"../x", "/x", "a/b", "..", ".", ""} {
		for what, r := range map[string]*undo.Receipt{"kept": {Kept: []string{name}}, "text": {Texts: map[string]*string{name: text("x")}}, "created": {Created: []string{name}}} {
			dir, now := files(t, map[string]string{"a": "a"})
			assert.ErrorContains(t, r.Restore(fsx.OS, dir), "leaves the folder", "%s %q", what, name)
			assert.Equal(t, map[string]string{"a": "a"}, now())
		}
	}
}

func packedText(t testing.TB, raw []byte) json.RawMessage {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(raw)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	out, err := json.Marshal(base64.StdEncoding.EncodeToString(b.Bytes()))
	require.NoError(t, err)
	return out
}

func TestBombIsRefused(t *testing.T) {
	bomb := packedText(t, bytes.Repeat([]byte(" "), 64<<20))
	testkit.AllocatesWithin(t, len(bomb), 2000, 32<<20, func() {
		_, err := undo.Unpack(bomb)
		require.ErrorContains(t, err, "unpacks to more")
	})
}

// FuzzReceipt reads any text as a receipt, as a file and packed.
func FuzzReceipt(f *testing.F) {
	for _, s := range []string{`{"former":["a"],"created":["b"],"done":true}`, `{"former":{"x.index.json":null},"created":[]}`, `{"former":7}`, `{"former":{}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r undo.Receipt
		var err error
		testkit.AllocatesWithin(t, len(raw), 400, 1<<20, func() { err = json.Unmarshal(raw, &r) })
		packed, perr := undo.Unpack(packedText(t, raw))
		if err != nil {
			require.Error(t, perr)
			return
		}
		require.NoError(t, perr)
		require.Equal(t, r, *packed)
		text, err := json.Marshal(&r)
		require.NoError(t, err)
		var again undo.Receipt
		require.NoError(t, json.Unmarshal(text, &again))
	})
}
