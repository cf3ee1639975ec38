package diff

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
)

// files compares what lies beside the weights.
func (d *differ) files(ctx context.Context) error {
	a, err := sideFiles(d.a.Dir())
	if err != nil {
		return err
	}
	b, err := sideFiles(d.b.Dir())
	if err != nil {
		return err
	}
	for _, n := range a {
		if !slices.Contains(b, n) {
			d.r.Files = append(d.r.Files, File{n, "removed"})
			continue
		}
		same, err := d.sameFile(ctx, d.a.Dir(), d.b.Dir(), n)
		if err != nil {
			return err
		}
		if !same {
			d.r.Files = append(d.r.Files, File{n, "changed"})
		}
	}
	for _, n := range b {
		if !slices.Contains(a, n) {
			d.r.Files = append(d.r.Files, File{n, "added"})
		}
	}
	return nil
}

func sideFiles(dir string) ([]string, error) {
	from, err := fsx.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	entries, err := from.ReadDir()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		n := e.Name()
		st, err := from.Stat(n)
		if err != nil {
			return nil, err
		}
		if !st.IsDir() && !st.Mode().IsRegular() {
			_, err := from.Open(n)
			return nil, err
		}
		if !st.Mode().IsRegular() || fsx.IsTemp(n) || strings.HasSuffix(n, ".safetensors") || strings.HasSuffix(n, ".safetensors.index.json") || n == "glmconv-manifest.json" {
			continue
		}
		out = append(out, n)
	}
	return out, nil
}

// sameFile compares two files byte for byte.
func (d *differ) sameFile(ctx context.Context, a, b, name string) (bool, error) {
	x, err := fsx.OpenIn(a, name)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := fsx.OpenIn(b, name)
	if err != nil {
		return false, err
	}
	defer y.Close()
	sx, err := x.Stat()
	if err != nil {
		return false, err
	}
	sy, err := y.Stat()
	if err != nil || sx.Size() != sy.Size() || fsx.SameFile(sx, sy) {
		return fsx.SameFile(sx, sy), err
	}
	d.sides += 2 * sx.Size()
	return equal(fsx.Stoppable(ctx, x), y)
}

// equal compares what two readers have to say.
func equal(x, y io.Reader) (bool, error) {
	const piece = 1 << 18
	p, q := make([]byte, piece), make([]byte, piece)
	for {
		n, err := io.ReadFull(x, p)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		end := err != nil
		m, err := io.ReadFull(y, q)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if end {
			return true, nil
		}
	}
}
