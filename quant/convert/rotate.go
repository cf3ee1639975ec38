package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"path/filepath"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/quant/rotation"
	"github.com/glmconv/glmconv/safetensors"
)

// putRotation writes the matrix of the stream beside the result, as msmodelslim
// does (docs/facts/ascend.md 1.4): for drafts that are not in the checkpoint.
func (c *converter) putRotation(ctx context.Context, m *quant.Manifest) (err error) {
	n := c.plan.Options.Rotation.Stream.Size()
	spec := safetensors.Spec{Name: layout.GlobalRotation, DType: safetensors.F32, Shape: []int64{int64(n), int64(n)}}
	file, err := safetensors.PlanFile(filepath.Base(layout.RotationFile), []safetensors.Spec{spec}, nil)
	if err != nil {
		return err
	}
	path := filepath.Join(c.dst, filepath.FromSlash(layout.RotationFile))
	if err := c.fs.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	out, err := fsx.CreateTemp(c.fs, path)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if err := c.writeRotation(ctx, out, sum, file.Header(), n); err != nil {
		return errors.Join(err, fsx.Discard(c.fs, out))
	}
	if err := fsx.Commit(c.fs, out, path); err != nil {
		return err
	}
	m.Files = append(m.Files, quant.ManifestFile{Name: layout.RotationFile, Size: file.Size, SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

func (c *converter) writeRotation(ctx context.Context, out io.Writer, sum hash.Hash, header []byte, n int) error {
	w := io.MultiWriter(out, sum)
	if _, err := w.Write(header); err != nil {
		return err
	}
	const step = 64
	x := make([]float32, step*n)
	var b []byte
	for lo := 0; lo < n; lo += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		hi := min(lo+step, n)
		rotation.Rows(c.plan.Options.Rotation.Stream, lo, hi, x)
		b = numeric.AppendF32(b[:0], x[:(hi-lo)*n])
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}
