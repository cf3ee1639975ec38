package repair

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/internal/undo"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/safetensors"
)

// Undo puts back what the last repair of dir changed, also one that was
// interrupted. It matches ErrNoUndo if there was none. A nil fsys means the
// operating system's files.
func Undo(dir string, fsys safetensors.FS) error {
	fsys = fsx.Or(fsys)
	unlock, err := fsx.Lock(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	defer func() { _ = unlock() }()
	r, err := undo.Read(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: no repair was made here", dir, ErrNoUndo)
	}
	if err != nil {
		return err
	}
	return undo.Back(fsys, dir, r)
}

func manifestFile(name string, text []byte) quant.ManifestFile {
	sum := sha256.Sum256(text)
	return quant.ManifestFile{Name: name, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
}

// manifest returns the manifest with the files that change, nil if there is none.
func (p *Plan) manifest(files []quant.ManifestFile) ([]byte, error) {
	m, err := quant.ReadManifest(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m.Files = slices.DeleteFunc(m.Files, func(f quant.ManifestFile) bool {
		return slices.Contains(p.remove, f.Name) || slices.ContainsFunc(files, func(n quant.ManifestFile) bool { return n.Name == f.Name })
	})
	m.Files = append(m.Files, files...)
	raw, err := json.MarshalIndent(m, "", " ")
	return append(raw, '\n'), err
}
