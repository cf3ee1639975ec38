package verify

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// additions judges tensors that the source does not have. Parts of quantized
// weights are compared with them, copies of embedding and head for the MTP
// layer with what they copy, and scales of the KV cache are the engines' to
// use; anything else no conversion adds.
func (r *Result) additions(e *evidence, compared map[string]bool) {
	var copies []string
	var caches []string
	for _, x := range e.Diff.Added {
		module, _ := glm.ModuleOf(x.Name)
		switch {
		case strings.HasSuffix(module, "rot") && e.Turns && e.Check.Rotated:
			r.Notes = append(r.Notes, Note{x.Name, "is not in the source; engines turn the draft's input by it"})
		case ofCache(x.Name):
			caches = append(caches, x.Name)
		case compared[module]: // a part of a weight that was compared
		case isCopy(x.Name):
			copies = append(copies, x.Name)
		default:
			r.Exact.Differing++
			r.fail("exact", x.Name, fmt.Sprintf("%s %v in %s is not in the source, and no conversion adds it", x.B.DType, x.B.Shape, x.B.File))
		}
	}
	r.noteCaches(caches, "in the source", "engines use them for their caches")
	for _, name := range copies {
		c := e.Copies[name]
		r.Bytes += c.Bytes
		if c.Fault != "" {
			r.Exact.Differing++
			r.fail("exact", name, c.Fault)
		}
	}
}

// ofCache reports whether a tensor is a scale, an offset or a rotation of a
// cache, which no weight depends on.
func ofCache(name string) bool {
	module, param := glm.ModuleOf(name)
	switch param {
	case "k_scale", "v_scale", "q_scale", "kv_scale", "k_zero_point", "v_zero_point", layout.CacheScale, layout.CacheOffset:
		return true
	case "output_scale", "output_zero_point": // earlier forms of the same
		return strings.HasSuffix(module, ".k_proj") || strings.HasSuffix(module, ".v_proj")
	case layout.QueryRotation, layout.KeyRotation:
		return strings.HasSuffix(module, ".indexer")
	}
	return false
}

// noteCaches notes tensors of caches that one side lacks.
func (r *Result) noteCaches(names []string, side, why string) {
	switch n := len(names); n {
	case 0:
	case 1:
		r.Notes = append(r.Notes, Note{names[0], "is not " + side + "; " + why})
	default:
		r.Notes = append(r.Notes, Note{names[0], fmt.Sprintf("and %d more are not %s; %s", n-1, side, why)})
	}
}

// isCopy reports whether a tensor is named as the MTP layer's embedding or head.
func isCopy(name string) bool {
	return strings.HasSuffix(name, ".embed_tokens.weight") || strings.HasSuffix(name, ".shared_head.head.weight")
}

// copied is what was found of the MTP layer's copy of an embedding or a head.
type copied struct {
	Fault string // why it is none, or ""
	Bytes int64  // that were read
}

// compareCopies compares the MTP layer's copies of embedding and head that a
// conversion made with what they are copies of.
func (e *evidence) compareCopies(f *folders) error {
	var names []string
	for _, x := range e.Diff.Added {
		if isCopy(x.Name) {
			names = append(names, x.Name)
		}
	}
	cfg, err := glm.LoadConfig(e.Source)
	if err != nil || len(names) == 0 {
		return nil //nolint:nilerr // companion says what is wrong with configs
	}
	a, err := f.whole(e.Source)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	b, err := f.whole(e.Result)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	e.Copies = map[string]copied{}
	for _, name := range names {
		original := cfg.EmbeddingName()
		if strings.HasSuffix(name, ".shared_head.head.weight") {
			original = cfg.HeadName()
		}
		if e.Copies[name], err = copyOf(a, b, original, name); err != nil {
			return err
		}
	}
	return nil
}

// copyOf compares a tensor of b with the one of a that it is to be a copy of.
func copyOf(a, b *safetensors.Checkpoint, original, name string) (copied, error) {
	x, ok := a.Info(original)
	y, ok2 := b.Info(name)
	switch {
	case !ok || !ok2: // said elsewhere
		return copied{}, nil
	case x.DType != y.DType || !slices.Equal(x.Shape, y.Shape):
		return copied{Fault: fmt.Sprintf("is %s %v and no copy of %s, which is %s %v", y.DType, y.Shape, original, x.DType, x.Shape)}, nil
	}
	rows, first, err := differing(a, x, b, y)
	if z, ok := b.Info(original); err == nil && rows > 0 && ok && z.DType == y.DType && slices.Equal(z.Shape, y.Shape) {
		var own int64 // of the result's own, which is compared with the source's
		if own, _, err = differing(b, z, b, y); own == 0 {
			rows = 0
		}
	}
	c := copied{Bytes: x.Size + y.Size}
	if rows > 0 {
		c.Fault = fmt.Sprintf("is no copy of %s: %d of %d rows differ, the first is row %d", original, rows, max(x.Shape[0], 1), first)
	}
	return c, err
}

// differing counts the rows that two tensors of one form have otherwise.
func differing(a *safetensors.Checkpoint, x safetensors.Info, b *safetensors.Checkpoint, y safetensors.Info) (rows, first int64, err error) {
	if len(x.Shape) == 0 || x.Shape[0] == 0 || x.Size == 0 {
		return 0, 0, nil
	}
	row := x.Size / x.Shape[0]
	n := max(1, min(x.Shape[0], copyBytes/row))
	p, q := make([]byte, n*row), make([]byte, n*row)
	for lo := int64(0); lo < x.Shape[0]; lo += n {
		k := min(n, x.Shape[0]-lo)
		if err := a.ReadAt(x, lo*row, p[:k*row]); err != nil {
			return 0, 0, err
		}
		if err := b.ReadAt(y, lo*row, q[:k*row]); err != nil {
			return 0, 0, err
		}
		for i := range k {
			if !bytes.Equal(p[i*row:(i+1)*row], q[i*row:(i+1)*row]) {
				if rows++; rows == 1 {
					first = lo + i
				}
			}
		}
	}
	return rows, first, nil
}

// copyBytes is what is held of each of two tensors that are compared.
const copyBytes = 1 << 20
