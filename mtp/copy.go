package mtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
)

// chunk is how much of a tensor is in memory at a time.
const chunk = 4 << 20

// marker is the metadata key by which a file that no index names any more is
// recognised as ours.
const marker = "glmconv"

var fileMetadata = map[string]string{"format": "pt", marker: "mtp-remap"}

// writeCopies writes the new file, unless an interrupted run wrote it already.
func (r *Remap) writeCopies(ctx context.Context, fsys fsx.FS, dst string) error {
	if len(r.Copies) == 0 {
		return nil
	}
	ckpt, err := safetensors.OpenDir(r.Dir)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	path := filepath.Join(dst, r.File)
	if _, err := fsys.Stat(path); err == nil {
		return r.compare(ctx, ckpt, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	specs := make([]safetensors.Spec, len(r.Copies))
	for i, c := range r.Copies {
		specs[i] = safetensors.Spec{Name: c.Name, DType: c.From.DType, Shape: c.From.Shape}
	}
	plan, err := safetensors.PlanFile(r.File, specs, fileMetadata)
	if err != nil {
		return err
	}
	w, err := safetensors.Create(fsys, dst, plan)
	if err != nil {
		return err
	}
	done := int64(0)
	buf := make([]byte, chunk)
	for _, c := range r.Copies {
		err := eachChunk(ctx, ckpt, c.From, buf, func(p []byte, _ int64) error {
			_, err := w.Write(p)
			done += int64(len(p))
			if r.progress != nil {
				r.progress(done, r.Bytes, r.File)
			}
			return err
		})
		if err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	_, err = w.Commit()
	return err
}

// compare makes sure that a file that stands under the new name already holds
// exactly the copies: what an interrupted run leaves, or the guide's script.
func (r *Remap) compare(ctx context.Context, ckpt *safetensors.Checkpoint, path string) error {
	f, err := safetensors.OpenFile(path)
	if err != nil {
		return fail(ErrConflict, path, "remove it, or remap into a new directory", "a file of this name is in the way: %v", err)
	}
	defer f.Close()
	if n := len(f.Tensors()); n != len(r.Copies) {
		return fail(ErrConflict, path, "remove it, or remap into a new directory", "a file of this name is in the way; it holds %d tensors, not the %d copies", n, len(r.Copies))
	}
	a, b := make([]byte, chunk), make([]byte, chunk)
	for _, c := range r.Copies {
		have, ok := f.Tensor(c.Name)
		if !ok || have.DType != c.From.DType || have.Size != c.From.Size || fmt.Sprint(have.Shape) != fmt.Sprint(c.From.Shape) {
			return fail(ErrConflict, path, "remove it, or remap into a new directory", "a file of this name is in the way; it has no fitting %s", c.Name)
		}
		err := eachChunk(ctx, ckpt, c.From, a, func(p []byte, off int64) error {
			if err := f.ReadTensor(have, off, b[:len(p)]); err != nil {
				return err
			}
			if !bytes.Equal(p, b[:len(p)]) {
				return fail(ErrConflict, path, "remove it and run again", "%s in it is not a copy of %s", c.Name, c.From.Name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachChunk calls fn for one piece of a tensor after the other; off counts
// from the tensor's start.
func eachChunk(ctx context.Context, ckpt *safetensors.Checkpoint, t safetensors.Info, buf []byte, fn func(p []byte, off int64) error) error {
	for off := int64(0); off < t.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), t.Size-off)]
		if err := ckpt.ReadAt(t, off, p); err != nil {
			return err
		}
		if err := fn(p, off); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}
