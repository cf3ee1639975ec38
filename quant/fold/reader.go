package fold

import (
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// Files is the part of a checkpoint that a Reader reads through;
// *safetensors.Checkpoint is one.
type Files interface {
	Info(name string) (safetensors.Info, bool)
	Tensors() []safetensors.Info
	ReadAt(t safetensors.Info, off int64, p []byte) error
}

// Reader reads a checkpoint as if it had been folded. It is safe for concurrent
// use if what it reads through is.
type Reader struct {
	Files
	parts    map[string][]part // by stored tensor, in the order of its bytes
	scalings map[string]scaler
}

// scaler changes stored elements in place: *Scaling and *Factor.
type scaler interface {
	Apply(b []byte, d safetensors.DType, at int64, name string) error
}

// part is a run of bytes of a stored tensor that is one tensor of the table.
type part struct {
	at, end int64
	name    string
	scaling scaler
}

// NewReader returns a reader of a checkpoint under a set of folds. Stacked expert
// tensors are folded expert by expert. Codes of quantised weights cannot be
// scaled: read them through Files and give what they stand for to FoldFloats.
func NewReader(cfg *glm.Config, files Files, set *Set) (*Reader, error) {
	scalings, err := set.Scalings(cfg)
	if err != nil {
		return nil, err
	}
	all := map[string]scaler{}
	for name, s := range scalings {
		all[name] = s
	}
	return newReader(cfg, files, all), nil
}

// NewFactorReader returns a reader of a checkpoint under folds by any factors, with
// every value rounded once to its type.
func NewFactorReader(cfg *glm.Config, files Files, factors Factors) *Reader {
	all := map[string]scaler{}
	for name, f := range factors {
		all[name] = f
	}
	return newReader(cfg, files, all)
}

func newReader(cfg *glm.Config, files Files, scalings map[string]scaler) *Reader {
	r := &Reader{files, map[string][]part{}, scalings}
	if len(scalings) == 0 {
		return r
	}
	for _, e := range glm.Survey(cfg, files.Tensors()).Entries {
		if s := scalings[e.Name]; s != nil {
			r.parts[e.Source.Name] = append(r.parts[e.Source.Name], part{e.Offset, e.Offset + e.Size, e.Name, s})
		}
	}
	for _, list := range r.parts {
		slices.SortFunc(list, func(a, b part) int { return int(min(max(a.at-b.at, -1), 1)) })
	}
	return r
}

// ReadAt reads len(p) bytes of a tensor from byte off on, whole elements, and
// scales them. Errors are those of Files and of Scaling.Apply.
func (r *Reader) ReadAt(t safetensors.Info, off int64, p []byte) error {
	if err := r.Files.ReadAt(t, off, p); err != nil {
		return err
	}
	return r.Fold(t, off, p)
}

// Codes reports whether a stored tensor is codes of a weight that folds scale:
// they cannot be read as if they had been folded.
func (r *Reader) Codes(t safetensors.Info) bool {
	_, float := floatOf(t.DType)
	return !float && (len(r.parts[t.Name]) > 0 || r.scalings[t.Name] != nil)
}

// FoldFloats scales values of a tensor of the family's table [rows, cols] in
// place: w begins with element at of it, row-major. Errors are those of
// Scaling.Apply.
func (r *Reader) FoldFloats(name string, at int64, w []float32) error {
	s := r.scalings[name]
	if s == nil {
		return nil
	}
	raw := numeric.AppendF32(nil, w)
	if err := s.Apply(raw, safetensors.F32, at, name); err != nil {
		return err
	}
	numeric.DecodeF32(w, raw)
	return nil
}

// Fold scales len(p) bytes of a tensor that were read from byte off on.
func (r *Reader) Fold(t safetensors.Info, off int64, p []byte) error {
	size := int64(max(t.DType.Bits()/8, 1))
	for _, x := range r.parts[t.Name] {
		lo, hi := max(x.at, off), min(x.end, off+int64(len(p)))
		if lo >= hi {
			continue
		}
		if err := x.scaling.Apply(p[lo-off:hi-off], t.DType, (lo-x.at)/size, x.name); err != nil {
			return err
		}
	}
	return nil
}
