package calib

import (
	"fmt"
	"path/filepath"

	"github.com/glmconv/glmconv/safetensors"
)

// Holds reports, by an error, whether part i of n in a folder is of this source
// (SourceID) and of these sequences, nil for any. It matches ErrStatistics where it
// is of others.
func Holds(dir string, i, n int, source string, seqs [][]int) error {
	path := filepath.Join(dir, PartName(i, n))
	f, err := safetensors.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	meta := f.Metadata()
	switch {
	case meta["schema"] != Schema:
		return fmt.Errorf("%w: %s: schema %q, this version reads %q", ErrStatistics, path, meta["schema"], Schema)
	case meta["source"] != source:
		return fmt.Errorf("%w: %s is of another checkpoint, or of another tokenizer", ErrStatistics, path)
	case seqs != nil && meta["tokens"] != TextID(seqs):
		return fmt.Errorf("%w: %s is of another text, or of another number of tokens", ErrStatistics, path)
	}
	return nil
}
