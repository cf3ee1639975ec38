package safetensors

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
)

// shardOf builds a file of U8 tensors with the given names, two bytes each.
func shardOf(names ...string) []byte {
	var head []string
	var data []byte
	for i, n := range names {
		head = append(head, entry(`"`+n+`"`, "[2]", 2*i, 2*i+2))
		data = append(data, n[0], byte(i))
	}
	return rawFile("{"+strings.Join(head, ",")+"}", data)
}

func indexOf(total int, pairs ...string) []byte {
	var m []string
	for i := 0; i < len(pairs); i += 2 {
		m = append(m, fmt.Sprintf("%q: %q", pairs[i], pairs[i+1]))
	}
	return fmt.Appendf(nil, `{"metadata": {"total_size": %d}, "weight_map": {%s}}`, total, strings.Join(m, ", "))
}

const one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

// goodDir writes a checkpoint of two shards, a and b in one, c in the other.
func goodDir(t testing.TB) string {
	dir := t.TempDir()
	putFile(t, dir, one, shardOf("a", "b"))
	putFile(t, dir, two, shardOf("c"))
	putFile(t, dir, IndexName, indexOf(6, "a", one, "b", one, "c", two))
	return dir
}

type dirCase struct {
	name     string
	change   func(t *testing.T, dir string)
	kind     error // of the error, nil if it opens
	tensor   string
	reason   string
	names    string   // tensors if it opens
	problems []string // "kind file tensor"
}

func write(name string, data []byte) func(*testing.T, string) {
	return func(t *testing.T, dir string) { putFile(t, dir, name, data) }
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, name))) }
}

func all(steps ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		for _, s := range steps {
			s(t, dir)
		}
	}
}

func symlink(target, name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		_ = os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skipf("SKIPPED: no symlinks here: %v", err)
		}
	}
}

var dirCases = []dirCase{
	{name: "good", change: func(*testing.T, string) {}, names: "a b c"},
	{name: "other files do not matter", change: all(write("config.json", []byte("{")), write("sub/x.safetensors", nil), write(".hidden.safetensors", nil)),
		names: "a b c"},

	// The index file.
	{name: "index empty", change: write(IndexName, nil), kind: ErrIndex, reason: "not JSON"},
	{name: "index cut", change: write(IndexName, []byte(`{"weight_map": {"a": "`)), kind: ErrIndex, reason: "not JSON"},
	{name: "index list", change: write(IndexName, []byte(`[]`)), kind: ErrIndex, reason: "not a JSON object"},
	{name: "index without map", change: write(IndexName, []byte(`{"metadata":{}}`)), kind: ErrIndex, reason: "no weight_map"},
	{name: "map is a list", change: write(IndexName, []byte(`{"weight_map":[]}`)), kind: ErrIndex, reason: "weight_map is not"},
	{name: "file is a number", change: write(IndexName, []byte(`{"weight_map":{"a":1}}`)), kind: ErrIndex, tensor: "a", reason: "mapped to 1"},
	{name: "total is a string", change: write(IndexName, []byte(`{"metadata":{"total_size":"6"},"weight_map":{}}`)), kind: ErrIndex, reason: "total_size"},
	{name: "index UTF-8", change: write(IndexName, []byte("{\"weight_map\":{\"a\xff\":\"x\"}}")), kind: ErrInvalidUTF8},
	{name: "index surrogate", change: write(IndexName, []byte(`{"weight_map":{"\ud800":"x"}}`)), kind: ErrInvalidUTF8},
	{name: "duplicate tensor in the index", change: write(IndexName, indexOf(6, "a", one, "b", one, "c", two, "a", two)), kind: ErrDuplicate,
		reason: "weight_map has the key a twice"},
	{name: "duplicate weight_map", change: write(IndexName, []byte(`{"weight_map":{},"weight_map":{}}`)), kind: ErrDuplicate, reason: "weight_map twice"},
	{name: "duplicate total", change: write(IndexName, []byte(`{"metadata":{"total_size":1,"total_size":2},"weight_map":{}}`)), kind: ErrDuplicate,
		reason: "total_size twice"},
	{name: "total as float", change: write(IndexName, bytes.ReplaceAll(indexOf(6, "a", one, "b", one, "c", two), []byte("6}"), []byte("6.0}"))),
		names: "a b c"},
	{name: "no metadata", change: write(IndexName, bytes.Replace(indexOf(6, "a", one, "b", one, "c", two), []byte("{\"total_size\": 6}"), []byte("null"),
		1)), names: "a b c"},
	{name: "total wrong", change: write(IndexName, indexOf(7, "a", one, "b", one, "c", two)), names: "a b c",
		problems: []string{"total-size " + IndexName + " "}},

	// Paths.
	{name: "path up", change: write(IndexName, indexOf(6, "a", "../"+one)), kind: ErrPath, tensor: "a", reason: "leaves the directory"},
	{name: "path up behind", change: write(IndexName, indexOf(6, "a", "x/../../"+one)), kind: ErrPath, tensor: "a", reason: "leaves the directory"},
	{name: "path two dots", change: write(IndexName, indexOf(6, "a", "..")), kind: ErrPath, tensor: "a", reason: "leaves the directory"},
	{name: "path absolute", change: write(IndexName, indexOf(6, "a", "/etc/"+one)), kind: ErrPath, tensor: "a", reason: "leaves the directory"},
	{name: "path backslash", change: write(IndexName, indexOf(6, "a", `..\`+one)), kind: ErrPath, tensor: "a", reason: "character"},
	{name: "path drive", change: write(IndexName, indexOf(6, "a", `C:x.safetensors`)), kind: ErrPath, tensor: "a", reason: "character"},
	{name: "path NUL", change: write(IndexName, []byte(`{"weight_map":{"a":"x\u0000.safetensors"}}`)), kind: ErrPath, tensor: "a", reason: "character"},
	{name: "path empty", change: write(IndexName, indexOf(6, "a", "")), kind: ErrPath, tensor: "a", reason: "not a file name"},
	{name: "path below", change: write(IndexName, indexOf(6, "a", "sub/"+one)), kind: ErrPath, tensor: "a", reason: "another directory"},
	{name: "path to a pickle", change: write(IndexName, indexOf(6, "a", "pytorch_model.bin")), kind: ErrPath, tensor: "a", reason: "not a safetensors file"},
	{name: "path to a temporary", change: write(IndexName, indexOf(6, "a", ".x.safetensors")), kind: ErrPath, tensor: "a", reason: "not a safetensors file"},
	{name: "symlink out, relative", change: all(write("../out-"+one, shardOf("a", "b")), symlink("../out-"+one, one)), kind: ErrPath,
		reason: "symlink to ../out-"},
	{name: "symlink out, absolute", change: symlink("/etc/passwd", one), kind: ErrPath, reason: "symlink to /etc/passwd"},
	{name: "symlink chain out", change: all(symlink("../blobs", "hop"), symlink("hop", two)), kind: ErrPath, reason: two},
	{name: "symlink of the index out", change: all(write("../out-index", indexOf(0)), symlink("../out-index", IndexName)), kind: ErrPath, reason: "symlink"},
	{name: "symlink dangling", change: symlink("gone", one), kind: ErrNotFound, reason: "symlink to gone, which does not exist"},
	{name: "symlink inside", change: all(write("blobs/x", shardOf("a", "b")), symlink("blobs/x", one)), names: "a b c"},
	{name: "directory as shard", change: all(remove(one), write(one+"/x", nil)), kind: ErrPath, reason: "not a regular file"},

	// Index against headers.
	{name: "shard missing", change: remove(two), kind: ErrNotFound, reason: two + ": does not exist"},
	{name: "shard malformed", change: write(two, []byte("xxxxxxxxx")), kind: ErrHeaderTooLarge, reason: two},
	{name: "entry without tensor", change: write(IndexName, indexOf(6, "a", one, "b", one, "c", two, "d", two)), kind: ErrIndex, tensor: "d",
		reason: "listed in " + two + ", whose header does not have it"},
	{name: "entry in the wrong shard", change: write(IndexName, indexOf(6, "a", one, "b", two, "c", two)), kind: ErrIndex, tensor: "b",
		reason: "it is in " + one},
	{name: "tensor in two shards", change: write(two, shardOf("c", "a")), kind: ErrDuplicate, tensor: "a", reason: "is also in " + one},
	{name: "tensor without entry", change: all(write(two, shardOf("c", "d")), write(IndexName, indexOf(8, "a", one, "b", one, "c", two))), names: "a b c d",
		problems: []string{"unindexed " + two + " d"}},

	// Files beside.
	{name: "unlisted mtp", change: write(MTPName, shardOf("m")), names: "a b c m", problems: []string{"unlisted mtp.safetensors "}},
	{name: "unlisted mtp, counted in the total", change: all(write(MTPName, shardOf("m")), write(IndexName, indexOf(8, "a", one, "b", one, "c", two))),
		names: "a b c m", problems: []string{"unlisted mtp.safetensors "}},
	{name: "a rotation that is not in the total", change: all(write(rotationName, shardOf("r")), write(IndexName, indexOf(6, "a", one, "b", one, "c", two, "r", rotationName))),
		names: "a b c r"},
	{name: "unlisted mtp that repeats", change: write(MTPName, shardOf("c", "a")), names: "a b c", problems: []string{"unlisted mtp.safetensors "}},
	{name: "unlisted mtp that overlaps", change: write(MTPName, shardOf("m", "a")), kind: ErrDuplicate, tensor: "a", reason: "mtp.safetensors"},
	{name: "unlisted mtp malformed", change: write(MTPName, nil), kind: ErrHeaderTooSmall, reason: "mtp.safetensors"},
	{name: "listed mtp", change: all(write(MTPName, shardOf("m")), write(IndexName, indexOf(8, "a", one, "b", one, "c", two, "m", MTPName))), names: "a b c m"},
	{name: "unlisted shard, even malformed", change: write("old.safetensors", nil), names: "a b c", problems: []string{"unlisted old.safetensors "}},
	{name: "leftover", change: write(fsx.TempName(one), nil), names: "a b c", problems: []string{"leftover " + fsx.TempName(one) + " "}},

	// Two indexes, none, one of the other kind.
	{name: "second index", change: write(AscendIndexName, indexOf(0)), names: "a b c", problems: []string{"second-index " + AscendIndexName + " "}},
	{name: "stale index in an ascend directory", change: all(write(AscendIndexName, indexOf(2, "q", "quant_model_weights-00001-of-00001.safetensors")),
		write("quant_model_weights-00001-of-00001.safetensors", shardOf("q")), write("quant_model_description.json", nil)),
		names: "q", problems: []string{"second-index " + IndexName + " ", "unlisted " + one + " ", "unlisted " + two + " "}},
	{name: "stale index whose shards are gone", change: all(write(AscendIndexName, indexOf(2, "q", "q.safetensors")), write("q.safetensors", shardOf("q")),
		remove(one), remove(two)),
		names: "q", problems: []string{"second-index " + IndexName + " "}},
	{name: "stale index that is broken", change: all(write(AscendIndexName, indexOf(2, "q", "q.safetensors")), write("q.safetensors", shardOf("q")),
		write(IndexName, nil), remove(one), remove(two)),
		names: "q", problems: []string{"second-index " + IndexName + " "}},
	{name: "ascend only", change: all(remove(IndexName), remove(one), remove(two), write("q.safetensors", shardOf("q")),
		write(AscendIndexName, indexOf(2, "q", "q.safetensors"))), names: "q"},
	{name: "shards without index", change: remove(IndexName), names: "a b c", problems: []string{"no-index  "}},
	{name: "shards without index, one gone", change: all(remove(IndexName), remove(one)), kind: ErrNotFound,
		reason: one + ": is missing from a set of 2 shards"},
	{name: "single file", change: all(remove(IndexName), remove(one), remove(two), write(SingleName, shardOf("s"))), names: "s"},
	{name: "single file beside others", change: all(remove(IndexName), write(SingleName, shardOf("s"))), names: "s",
		problems: []string{"unlisted " + one + " ", "unlisted " + two + " "}},
	{name: "single file beside mtp", change: all(remove(IndexName), remove(one), remove(two), write(SingleName, shardOf("s")), write(MTPName, shardOf("m"))),
		names: "m s", problems: []string{"unlisted mtp.safetensors "}},
	{name: "any name", change: all(remove(IndexName), remove(one), remove(two), write("weights.safetensors", shardOf("s"))), names: "s"},
	{name: "nothing", change: all(remove(IndexName), remove(one), remove(two)), kind: ErrNotFound, reason: "no *.safetensors file"},
}

func TestOpenDir(t *testing.T) {
	for _, c := range dirCases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(goodDir(t))
			c.change(t, dir)
			ck, err := OpenDir(dir)
			if c.kind != nil {
				require.Nil(t, ck)
				var e *Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, c.kind, e.Kind, err.Error())
				assert.Equal(t, c.tensor, e.Tensor)
				assert.Contains(t, err.Error(), c.reason)
				assert.Contains(t, e.File, dir)
				return
			}
			require.NoError(t, err)
			defer ck.Close()
			checkSet(t, ck, c)
		})
	}
}

// checkSet compares tensors, data and problems with what a case expects.
func checkSet(t *testing.T, ck *Checkpoint, c dirCase) {
	assert.Equal(t, c.names, strings.Join(ck.Names(), " "))
	var got []string
	for _, p := range ck.Problems() {
		assert.NotEmpty(t, p.Detail)
		got = append(got, fmt.Sprintf("%s %s %s", p.Kind, p.File, p.Tensor))
	}
	assert.Equal(t, c.problems, got)
	last := ""
	for _, i := range ck.Tensors() {
		pos := fmt.Sprintf("%s %12d", i.File, i.Offset)
		assert.Less(t, last, pos)
		last = pos
		data, err := io.ReadAll(ck.Reader(i))
		require.NoError(t, err)
		require.Len(t, data, 2)
		assert.Equal(t, i.Name[0], data[0])
	}
}

// TestOpenDirAllErrors: in lenient mode every case opens, unless there is
// nothing to open, and tells the same error as a problem.
func TestOpenDirAllErrors(t *testing.T) {
	for _, c := range dirCases {
		t.Run(c.name, func(t *testing.T) {
			dir := goodDir(t)
			c.change(t, dir)
			ck, err := OpenDirOptions(dir, Options{AllErrors: true})
			if c.name == "nothing" {
				require.ErrorIs(t, err, ErrNotFound)
				return
			}
			require.NoError(t, err)
			defer ck.Close()
			if c.kind == nil {
				checkSet(t, ck, c)
				return
			}
			found := false
			for _, p := range ck.Problems() {
				if p.Kind == ProblemError {
					require.Error(t, p.Err)
					assert.Equal(t, p.Err.Error(), p.Detail)
					found = found || errors.Is(p.Err, c.kind) && p.Tensor == c.tensor && strings.Contains(p.Detail, c.reason)
				} else {
					require.NoError(t, p.Err)
				}
			}
			assert.True(t, found, "%v", ck.Problems())
		})
	}
}

// TestAllErrorsCollects sees several faults of one directory at once.
func TestAllErrorsCollects(t *testing.T) {
	dir := goodDir(t)
	putFile(t, dir, two, shardOf("c", "a"))
	putFile(t, dir, "bad.safetensors", nil)
	putFile(t, dir, IndexName, indexOf(1, "a", one, "b", one, "c", two, "d", one, "e", "../e.safetensors", "f", "gone.safetensors", "g", "bad.safetensors"))
	ck, err := OpenDirOptions(dir, Options{AllErrors: true})
	require.NoError(t, err)
	defer ck.Close()
	var kinds []error
	for _, p := range ck.Problems() {
		var e *Error
		require.ErrorAs(t, p.Err, &e)
		kinds = append(kinds, e.Kind)
	}
	assert.ElementsMatch(t, []error{ErrDuplicate, ErrIndex, ErrPath, ErrNotFound, ErrHeaderTooSmall}, kinds)
	assert.Equal(t, []string{"a", "b", "c"}, ck.Names())
}

func TestOpenDirOddities(t *testing.T) {
	dir := goodDir(t)
	_, err := OpenDir(filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = OpenDir(filepath.Join(dir, one))
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorContains(t, err, "is not a directory")

	// The directory itself may be reached by a symlink.
	link := filepath.Join(t.TempDir(), "link")
	if os.Symlink(dir, link) == nil {
		c, err := OpenDir(link)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
}

// TestHuggingFaceCache is a snapshot directory of the hub's cache.
func TestHuggingFaceCache(t *testing.T) {
	root := t.TempDir()
	snap := filepath.Join(root, "snapshots", "abc")
	require.NoError(t, os.MkdirAll(snap, 0o755))
	putFile(t, root, "blobs/sha", shardOf("a"))
	symlink("../../blobs/sha", SingleName)(t, snap)
	putFile(t, root, "blobs/index", indexOf(2, "a", SingleName))
	symlink("../../blobs/index", IndexName)(t, snap)
	c, err := OpenDir(snap)
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, c.Names())
	require.NoError(t, c.Close())

	// What is no blob of this cache is refused, once, with one sentence.
	putFile(t, root, "private", shardOf("a"))
	require.NoError(t, os.Remove(filepath.Join(snap, SingleName)))
	symlink("../../private", SingleName)(t, snap)
	_, err = OpenDir(snap)
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, ErrPath, e.Kind)
	assert.Contains(t, e.Advice, "hf download --local-dir")
}
