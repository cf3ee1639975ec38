package diff

import (
	"bytes"
	"context"
	"slices"
)

// copyOf returns the tensor of A that a tensor of A is to be a copy of: the
// model's own embedding or head for those of the MTP layer; "" for all others.
func (d *differ) copyOf(name string) string {
	if d.a.cfg == nil {
		return ""
	}
	embed, head := d.a.cfg.MTPNames(d.a.cfg.Layers)
	switch name {
	case embed:
		return d.a.cfg.EmbeddingName()
	case head:
		return d.a.cfg.HeadName()
	}
	return ""
}

// same returns of if A stores the tensor name as it stores of, bit for bit,
// else "".
func (d *differ) same(ctx context.Context, name, of string) (string, error) {
	t, _ := d.a.Info(name)
	u, ok := d.a.Info(of)
	if !ok || t.DType != u.DType || !slices.Equal(t.Shape, u.Shape) {
		return "", nil
	}
	n := min(chunk, t.Size)
	p, q := make([]byte, n), make([]byte, n)
	for off := int64(0); off < t.Size; off += n {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n := min(n, t.Size-off)
		if err := d.a.Checkpoint.ReadAt(t, off, p[:n]); err != nil {
			return "", err
		}
		if err := d.a.Checkpoint.ReadAt(u, off, q[:n]); err != nil {
			return "", err
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return "", nil
		}
	}
	return of, nil
}
