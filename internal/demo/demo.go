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
	"fmt"
	"io"
	"os"
	"path/filepath"
)

//go:embed nano-glm5.zip
var archive []byte

// Name is the folder name that fits the model.
const Name = "nano-glm5"

// Extract writes the checkpoint's files into dir, which is created.
func Extract(dir string) error {
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return fmt.Errorf("demo: built-in model: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	for _, f := range r.File {
		if err := extract(f, filepath.Join(dir, filepath.Base(f.Name))); err != nil {
			return fmt.Errorf("demo: %s: %w", f.Name, err)
		}
	}
	return nil
}

func extract(f *zip.File, path string) error {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
