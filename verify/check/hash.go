package check

import (
	"path/filepath"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/safetensors"
	"github.com/glmconv/glmconv/source"
)

// hash returns the SHA-256 of a file: of its bytes, or what the listing of a
// mounted source says of it, which reads nothing.
func (s *subject) hash(name string) (string, error) {
	path := filepath.Join(s.dir, name)
	if st, err := fsx.Stat(path); err == nil {
		if e, ok := source.EntryOf(st); ok && e.SHA256 != "" {
			return e.SHA256, nil
		}
	}
	sum, _, err := safetensors.HashFile(path)
	return sum, err
}
