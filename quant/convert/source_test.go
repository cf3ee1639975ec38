package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// alter changes bytes of a tensor in place, with the size and the modification
// time as they were.
func alter(t *testing.T, dir, tensor string) {
	t.Helper()
	c, err := safetensors.OpenDir(dir)
	require.NoError(t, err)
	defer c.Close()
	info, ok := c.Info(tensor)
	require.True(t, ok, tensor)
	path := filepath.Join(dir, info.File)
	st, err := os.Stat(path)
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond) // the clock of a file system may tick that slowly
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	b := make([]byte, 2)
	_, err = f.ReadAt(b, info.Offset)
	require.NoError(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, info.Offset)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, os.Chtimes(path, time.Time{}, st.ModTime()))
}

// convertW8A8 plans and converts in small shards.
func convertW8A8(t *testing.T, src, dst string, o Options) (*Result, error) {
	t.Helper()
	c, err := safetensors.OpenDir(src)
	require.NoError(t, err)
	defer c.Close()
	p, err := quant.NewPlan(c, quant.W8A8, "", quant.Options{ShardSize: 300_000})
	require.NoError(t, err)
	return Run(context.Background(), p, c, dst, o)
}

// fresh returns the hashes of a conversion of what src is now.
func fresh(t *testing.T, src string) map[string]string {
	dst := filepath.Join(t.TempDir(), "fresh")
	_, err := convertW8A8(t, src, dst, Options{})
	require.NoError(t, err)
	return testkit.FileSums(t, dst)
}

// first and last are tensors of the first shard that is written and of the last.
const first, last = "model.embed_tokens.weight", "model.norm.weight"

// stopHalfway converts until about half is read.
func stopHalfway(t *testing.T, src, dst string) {
	t.Helper()
	c := open(t, src)
	p, err := quant.NewPlan(c, quant.W8A8, "", quant.Options{ShardSize: 300_000})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err = Run(ctx, p, c, dst, Options{Workers: 1, Progress: func(done, total int64, _ string) {
		if done > total/2 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	shards, err := filepath.Glob(filepath.Join(dst, "*.safetensors"))
	require.NoError(t, err)
	require.NotEmpty(t, shards)
}

// TestSourceChangedBetweenRuns: a resumed conversion makes anew what an earlier
// run made from other bytes, whatever time and size say.
func TestSourceChangedBetweenRuns(t *testing.T) {
	for _, tensor := range []string{first, last} {
		src, dst := demoModel(t), filepath.Join(t.TempDir(), "dst")
		before := fresh(t, src)
		stopHalfway(t, src, dst)
		alter(t, src, tensor)
		res, err := convertW8A8(t, src, dst, Options{Resume: true})
		require.NoError(t, err)
		assert.False(t, res.AlreadyDone)
		want := fresh(t, src)
		assert.NotEqual(t, before, want)
		assert.Equal(t, want, testkit.FileSums(t, dst))
	}
}

// TestSourceChangesWhileConverted: no shard and no result is called done that is
// of bytes that the source has no longer; the next run makes it.
func TestSourceChangesWhileConverted(t *testing.T) {
	for _, after := range []float64{0, 0.5, 0.99} {
		for _, tensor := range []string{first, last} {
			src, dst := demoModel(t), filepath.Join(t.TempDir(), "dst")
			var once sync.Once
			_, err := convertW8A8(t, src, dst, Options{Workers: 2, Progress: func(done, total int64, _ string) {
				if float64(done) >= after*float64(total) {
					once.Do(func() { alter(t, src, tensor) })
				}
			}})
			if err != nil {
				var ours *quant.Error
				require.ErrorAs(t, err, &ours)
				assert.ErrorIs(t, err, ErrSourceChanged)
				assert.Contains(t, err.Error(), ".safetensors")
				assert.True(t, ours.Resumable)
				_, err := quant.ReadManifest(dst)
				require.Error(t, err, "it is not called finished")
				_, err = convertW8A8(t, src, dst, Options{Resume: true})
				require.NoError(t, err)
			}
			assert.Equal(t, fresh(t, src), testkit.FileSums(t, dst), "%v %s", after, tensor)
		}
	}
}

// TestSourceTouched: a new time, another name of a file or a copy of the source
// are no change: bytes decide.
func TestSourceTouched(t *testing.T) {
	src, dst := demoModel(t), filepath.Join(t.TempDir(), "dst")
	want := fresh(t, src)
	stopHalfway(t, src, dst)
	moved := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(moved, os.DirFS(src)))
	before := testkit.FileSums(t, dst)
	var once sync.Once
	_, err := convertW8A8(t, moved, dst, Options{Resume: true, Workers: 1, Progress: func(_, _ int64, detail string) {
		if strings.Contains(detail, "checking") {
			return
		}
		once.Do(func() {
			shards, err := filepath.Glob(filepath.Join(moved, "*.safetensors"))
			require.NoError(t, err)
			require.NoError(t, os.Link(shards[0], shards[0]+".second-name"))
			require.NoError(t, os.Chtimes(shards[0], time.Time{}, time.Now()))
		})
	}})
	require.NoError(t, err)
	after := testkit.FileSums(t, dst)
	assert.Equal(t, want, after)
	for name, sum := range before {
		if strings.HasSuffix(name, ".safetensors") {
			assert.Equal(t, sum, after[name])
		}
	}
}

// TestSourceTouchedWhileReadAgain: names and rights that change while the bytes
// are compared are no change either.
func TestSourceTouchedWhileReadAgain(t *testing.T) {
	src, dst := demoModel(t), filepath.Join(t.TempDir(), "dst")
	want := fresh(t, src)
	links, touched := t.TempDir(), 0
	touch := func() {
		shards, err := filepath.Glob(filepath.Join(src, "*.safetensors"))
		require.NoError(t, err)
		for i, shard := range shards {
			require.NoError(t, os.Link(shard, filepath.Join(links, fmt.Sprint(touched, "-", i))))
			require.NoError(t, os.Chmod(shard, os.FileMode(0o600+touched%2*0o040)))
		}
		touched++
	}
	_, err := convertW8A8(t, src, dst, Options{Workers: 1, Progress: func(done, _ int64, detail string) {
		if done > 0 && touched == 0 || strings.Contains(detail, "again") {
			touch()
		}
	}})
	require.NoError(t, err)
	assert.Greater(t, touched, 2, "the bytes were compared while the files were touched")
	assert.Equal(t, want, testkit.FileSums(t, dst))
}

// TestAlreadyDoneMeansThisSource: a finished result of a source with the same
// headers and other bytes is not this one's.
func TestAlreadyDoneMeansThisSource(t *testing.T) {
	src, dst := demoModel(t), filepath.Join(t.TempDir(), "dst")
	_, err := convertW8A8(t, src, dst, Options{})
	require.NoError(t, err)
	refused := func(file string) {
		t.Helper()
		for _, o := range []Options{{}, {Resume: true}} {
			_, err := convertW8A8(t, src, dst, o)
			var ours *quant.Error
			require.ErrorAs(t, err, &ours)
			assert.ErrorIs(t, err, ErrDestination)
			assert.ErrorContains(t, err, "another source: "+file)
		}
	}
	done := func(unrecorded bool) {
		t.Helper()
		res, err := convertW8A8(t, src, dst, Options{})
		require.NoError(t, err)
		assert.True(t, res.AlreadyDone)
		assert.Equal(t, unrecorded, res.Unrecorded)
	}
	done(false)
	alter(t, src, last)
	refused("model")
	alter(t, src, last) // back
	done(false)
	b, err := os.ReadFile(filepath.Join(src, "tokenizer.json"))
	require.NoError(t, err)
	other := append([]byte(nil), b...)
	other[len(other)/2] ^= 1
	require.NoError(t, os.WriteFile(filepath.Join(src, "tokenizer.json"), other, 0o644))
	refused("tokenizer.json")
	require.NoError(t, os.WriteFile(filepath.Join(src, "tokenizer.json"), b, 0o644))

	edit(t, filepath.Join(dst, quant.ManifestName), func(m map[string]any) {
		for _, f := range m["files"].([]any) {
			delete(f.(map[string]any), "source_xxh3")
		}
	})
	done(true)
}

func edit(t *testing.T, path string, change func(map[string]any)) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	change(m)
	b, err = json.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, b, 0o644))
}

// TestOldReceipts: shards of a version that noted nothing of the source are made
// anew, and the result is the same.
func TestOldReceipts(t *testing.T) {
	src, dst := demoModel(t), filepath.Join(t.TempDir(), "dst")
	stopHalfway(t, src, dst)
	receipts, err := filepath.Glob(filepath.Join(dst, fsx.StateDir, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, receipts)
	for _, path := range receipts {
		edit(t, path, func(m map[string]any) { delete(m, "xxh3"); delete(m, "source") })
	}
	_, err = convertW8A8(t, src, dst, Options{Resume: true})
	require.NoError(t, err)
	assert.Equal(t, fresh(t, src), testkit.FileSums(t, dst))
}

// TestPartsOfTwoSources: parts that were made from different bytes never end in
// one result, and never in success.
func TestPartsOfTwoSources(t *testing.T) {
	src, dst := demoModel(t), filepath.Join(t.TempDir(), "dst")
	res, err := convertW8A8(t, src, dst, Options{Index: 1, Count: 2})
	require.NoError(t, err)
	require.NotEmpty(t, res.Pending)
	alter(t, src, first)
	_, err = convertW8A8(t, src, dst, Options{Index: 2, Count: 2})
	var ours *quant.Error
	require.True(t, errors.As(err, &ours), "%v", err)
	assert.ErrorIs(t, err, ErrSourceChanged)
	_, err = convertW8A8(t, src, dst, Options{Index: 1, Count: 2, Resume: true})
	require.NoError(t, err)
	assert.Equal(t, fresh(t, src), testkit.FileSums(t, dst))
}
