package story

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/convert"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/verify"
)

// full is a file system without room for new files.
type full struct{ safetensors.FS }

func (full) Create(path string) (safetensors.OutFile, error) {
	return nil, &fs.PathError{Op: "create", Path: path, Err: syscall.ENOSPC}
}

// edit replaces a file of a checkpoint by what fn makes of it.
func edit(t *testing.T, path string, fn func(text []byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, fn(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestErrors(t *testing.T) {
	src := model(t)
	open := func(dir string) *safetensors.Checkpoint {
		c, err := safetensors.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	_, absent := safetensors.OpenDir(filepath.Join(src, "absent"))
	_, noConfig := glm.LoadConfig(t.TempDir())
	_, foreign := glm.ParseConfig([]byte(`{"model_type": "llama"}`))
	_, broken := glm.ParseConfig([]byte(`{`))
	nothing := mtp.Undo(src, nil)
	_, layer := mtp.NewRemap(src, mtp.Options{Layer: 1})
	r, err := mtp.NewRemap(src, mtp.Options{FS: full{safetensors.OS}})
	if err != nil {
		t.Fatal(err)
	}
	noRoom := r.Apply(t.Context())

	m, err := runtime.Load(src, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, token := m.Embed([]int{-1})
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	plan, err := quant.NewPlan(open(src), quant.W8A8, "", quant.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, pattern := quant.NewPlan(open(src), quant.W8A8, "", quant.Options{Ignore: []string{"no.such.module"}})
	run := func(ctx context.Context, dst string, o convert.Options) error {
		_, err := convert.Run(ctx, plan, open(src), dst, o)
		return err
	}
	dst := filepath.Join(t.TempDir(), "dst")
	cancelled := run(stopped, dst, convert.Options{})
	again := run(t.Context(), dst, convert.Options{})
	inside := run(t.Context(), filepath.Join(src, "dst"), convert.Options{})
	part := run(t.Context(), filepath.Join(t.TempDir(), "dst"), convert.Options{Index: 3, Count: 2})
	memory := run(t.Context(), filepath.Join(t.TempDir(), "dst"), convert.Options{MaxMemory: 1})
	diskFull := run(t.Context(), filepath.Join(t.TempDir(), "dst"), convert.Options{FS: full{safetensors.OS}})
	_, noSource := verify.Compare(t.Context(), filepath.Join(src, "absent"), src, verify.Options{})

	for name, c := range map[string]struct{ err, is error }{
		"no checkpoint":     {absent, safetensors.ErrNotFound},
		"no config":         {noConfig, fs.ErrNotExist},
		"foreign model":     {foreign, glm.ErrUnsupported},
		"malformed config":  {broken, glm.ErrInvalid},
		"nothing to undo":   {nothing, mtp.ErrNoUndo},
		"not the MTP layer": {layer, mtp.ErrLayer},
		"disk full":         {noRoom, syscall.ENOSPC},
		"disk full, kind":   {noRoom, safetensors.ErrIO},
		"token id":          {token, runtime.ErrToken},
		"stopped":           {cancelled, context.Canceled},
		"stopped, kind":     {cancelled, convert.ErrStopped},
		"unfinished":        {again, convert.ErrUnfinished},
		"in the source":     {inside, convert.ErrDestination},
		"no such part":      {part, convert.ErrPart},
		"little memory":     {memory, quant.ErrMemory},
		"no such module":    {pattern, quant.ErrPattern},
		"converting, full":  {diskFull, syscall.ENOSPC},
		"converting, kind":  {diskFull, convert.ErrIO},
		"no source":         {noSource, fs.ErrNotExist},
	} {
		if !errors.Is(c.err, c.is) {
			t.Errorf("%s: %v is not %v", name, c.err, c.is)
		}
	}
	var hint interface{ Hint() string }
	for name, err := range map[string]error{"layer": layer, "foreign model": foreign} {
		if !errors.As(err, &hint) || hint.Hint() == "" {
			t.Errorf("%s: %v has no hint", name, err)
		}
	}
	var failed *quant.Error
	if !errors.As(diskFull, &failed) || failed.Resumable { // not even its plan could be written
		t.Errorf("a conversion that could not begin has nothing to go on from: %+v", diskFull)
	}
	var bad *safetensors.Error
	edit(t, filepath.Join(src, "model-00001-of-00002.safetensors"), func(text []byte) []byte { return text[:1000] })
	if _, err := safetensors.OpenDir(src); !errors.As(err, &bad) || !errors.Is(err, safetensors.ErrTruncated) || bad.File == "" {
		t.Errorf("truncated shard: %v", err)
	}
}
