package verify

import (
	"fmt"
	"path/filepath"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

const otherAdvice = "give the checkpoint that the result was made of"

// sameModel says why two directories cannot be source and result: their configs
// describe models of other shapes, and the result's tensors are not those of the
// source's. A config that cannot be read, or that alone disagrees, is a fault of
// the result, for Static and the forward pass to judge.
func (f *folders) sameModel(src, dst string) error {
	x, err := glm.LoadConfig(src)
	if err != nil {
		return err
	}
	y, err := glm.LoadConfig(dst)
	if err != nil {
		return nil //nolint:nilerr // a fault of the result, not a reason to compare nothing
	}
	for _, c := range []struct {
		what string
		a, b any
	}{
		{"model_type", x.Family, y.Family}, {"vocab_size", x.VocabSize, y.VocabSize},
		{"hidden_size", x.HiddenSize, y.HiddenSize}, {"num_hidden_layers", x.Layers, y.Layers},
	} {
		if c.a != c.b && !f.ofModel(x, dst) {
			return &Error{dst, fmt.Sprintf("is no result of %s: %s is %v, the source's is %v", src, c.what, c.b, c.a), otherAdvice}
		}
	}
	return sameVocabulary(src, dst)
}

// ofModel reports whether the tensors in a folder are those of a config: its
// embedding, final norm and head in their shapes, and most of the rest.
func (f *folders) ofModel(cfg *glm.Config, dir string) bool {
	c, err := f.whatever(dir)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	m := glm.Survey(cfg, c.Tensors())
	for _, t := range m.Missing {
		if t.Layer < 0 {
			return false
		}
	}
	return 4*len(m.Missing) <= len(m.Rows()) && 4*len(m.Unexpected) <= len(m.Rows())
}

// sameVocabulary compares what the ids stand for. Files that differ in bytes
// alone are the same, a few other tokens are damage that is compared later;
// files that cannot be read are for others to judge.
func sameVocabulary(src, dst string) error {
	a, errA := tokenizer.Load(src)
	b, errB := tokenizer.Load(dst)
	if errA != nil || errB != nil {
		return nil //nolint:nilerr // see above
	}
	n, first := max(a.MaxID(), b.MaxID())+1, -1
	other := 0
	for id := range n {
		x, inA := a.Bytes(id)
		y, inB := b.Bytes(id)
		if x != y || inA != inB {
			if other++; first < 0 {
				first = id
			}
		}
	}
	if 2*other <= n {
		return nil
	}
	x, inA := a.Bytes(first)
	y, inB := b.Bytes(first)
	return &Error{filepath.Join(dst, "tokenizer.json"), fmt.Sprintf("is another vocabulary than that of %s: %d of %d ids differ, id %d is %s there and %s here",
		src, other, n, first, token(x, inA), token(y, inB)), otherAdvice}
}

func token(text string, ok bool) string {
	if !ok {
		return "nothing"
	}
	return fmt.Sprintf("%q", text)
}
