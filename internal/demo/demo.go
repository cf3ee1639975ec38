// Package demo carries a small trained GLM checkpoint inside the binary, so
// that the whole story can be shown, and tested, without a file or a network.
//
// The model is GLM-5-like (glm_moe_dsa: latent attention, sparse indexer,
// 8 experts, 3 layers and an MTP layer that lacks embed_tokens and
// shared_head.head, like the published GLM-5), 4.2 MB of BF16 weights. It was
// trained on permissively licensed text; it produces plausible words, not
// sense.
package demo

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/internal/fsx"
)

//go:embed nano-glm5.zip
var archive []byte

// Name is the folder name that fits the model.
const Name = "nano-glm5"

// Extract writes the checkpoint's files into dir, which is created.
func Extract(dir string) error { return ExtractThrough(fsx.OS, dir) }

// ExtractThrough is Extract through a file system of package fsx, nil for the
// system's own. Files that are there already from an earlier time stay; one with
// other bytes is an error, except an index, which a remapping may have changed.
func ExtractThrough(fsys fsx.FS, dir string) error {
	fsys = fsx.Or(fsys)
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return fmt.Errorf("demo: built-in model: %w", err)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	for _, f := range r.File {
		if err := extract(fsys, f, filepath.Join(dir, filepath.Base(f.Name))); err != nil {
			return fmt.Errorf("demo: %s: %w", f.Name, err)
		}
	}
	return nil
}

func extract(fsys fsx.FS, f *zip.File, path string) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	have, err := fsys.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fsx.WriteFile(fsys, path, data)
	case err != nil:
		return err
	case !bytes.Equal(have, data) && !strings.HasSuffix(path, ".index.json"):
		return &fs.PathError{Op: "extract", Path: path, Err: fs.ErrExist}
	}
	return nil
}
