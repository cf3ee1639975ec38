package check

import (
	"bytes"
	"path/filepath"
	"slices"

	"github.com/glmconv/glmconv/safetensors"
)

// compareDuplicate says whether the second copy of a tensor has the same bytes
// as the one that counts.
func (s *subject) compareDuplicate(file, tensor string, f *Finding) {
	kept, ok := s.tensors[tensor]
	if !ok {
		return
	}
	other, err := safetensors.OpenFile(filepath.Join(s.dir, file))
	if err != nil {
		return
	}
	defer other.Close()
	t, ok := other.Tensor(tensor)
	if !ok {
		return
	}
	if t.DType != kept.DType || !slices.Equal(t.Shape, kept.Shape) {
		f.Detail += sprintf("; it is %s %v there and %s %v here", kept.DType, kept.Shape, t.DType, t.Shape)
		return
	}
	switch same, err := s.sameBytes(kept, other, t); {
	case err != nil:
	case same:
		f.Detail += "; both copies are equal"
	default:
		f.Detail += "; the two have other values: one is of another state of the model"
	}
}

// sameBytes compares a tensor of the checkpoint with one of a file.
func (s *subject) sameBytes(kept safetensors.Info, f *safetensors.File, t safetensors.Info) (bool, error) {
	a, b := make([]byte, min(chunk, t.Size)), make([]byte, min(chunk, t.Size))
	for off := int64(0); off < t.Size; off += int64(len(a)) {
		n := min(int64(len(a)), t.Size-off)
		a, b = a[:n], b[:n]
		if err := s.ckpt.ReadAt(kept, off, a); err != nil {
			return false, err
		}
		if err := f.ReadTensor(t, off, b); err != nil {
			return false, err
		}
		if !bytes.Equal(a, b) {
			return false, nil
		}
	}
	return true, nil
}
