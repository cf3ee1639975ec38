package diff

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
)

// files compares what lies beside the weights.
func (d *differ) files(ctx context.Context) error {
	a, err := sideFiles(d.a)
	if err != nil {
		return err
	}
	b, err := sideFiles(d.b)
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

// deepest is how many folders below a checkpoint's are looked into.
const deepest = 8

// sideFiles lists what lies beside the weights, in folders too (optional/), with
// the weight files that were not read as part of the checkpoint.
func sideFiles(c *checkpoint) ([]string, error) {
	read := map[string]bool{}
	for _, f := range c.Files() {
		read[f.Name] = true
	}
	from, err := fsx.OpenDir(c.Dir())
	if err != nil {
		return nil, err
	}
	defer from.Close()
	top, err := from.ReadDir()
	if err != nil {
		return nil, err
	}
	var out []string
	var walk func(sub string, entries []fs.DirEntry, depth int) error
	walk = func(sub string, entries []fs.DirEntry, depth int) error {
		for _, e := range entries {
			n := e.Name()
			name := path.Join(sub, n)
			if e.IsDir() { // not through symlinks
				if depth == deepest || strings.HasPrefix(n, ".") {
					continue
				}
				inner, err := os.ReadDir(filepath.Join(c.Dir(), name))
				if err != nil {
					return err
				}
				if err := walk(name, inner, depth+1); err != nil {
					return err
				}
				continue
			}
			if sub == "" && (read[n] || strings.HasSuffix(n, ".safetensors.index.json") || n == "glmconv-manifest.json") || fsx.IsTemp(n) {
				continue
			}
			st, err := from.Stat(name)
			switch {
			case errors.Is(err, fs.ErrNotExist): // a link that leads nowhere is one on both sides, or a difference
			case err != nil:
				return err
			case st.IsDir():
				continue
			case !st.Mode().IsRegular():
				_, err := from.Open(name)
				return err
			}
			out = append(out, name)
		}
		return nil
	}
	err = walk("", top, 0)
	return out, err
}

// nowhere returns where a link leads that leads to nothing.
func nowhere(dir, name string) (target string, ok bool) {
	if _, err := fsx.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	target, err := os.Readlink(filepath.Join(dir, name))
	return target, err == nil
}

// sameFile compares two files byte for byte, links that lead nowhere by where.
func (d *differ) sameFile(ctx context.Context, a, b, name string) (bool, error) {
	to, lost := nowhere(a, name)
	if other, too := nowhere(b, name); lost || too {
		return lost && too && to == other, nil
	}
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
