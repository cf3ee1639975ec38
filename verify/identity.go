package verify

import (
	"fmt"
	"path/filepath"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/runtime/tokenizer"
)

const otherAdvice = "give the checkpoint that the result was made of"

// sameModel says why two directories cannot be source and result: their configs
// describe models of other shapes. A config that cannot be read is for Static
// and the forward pass to judge.
func sameModel(src, dst string) error {
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
		if c.a != c.b {
			return &Error{dst, fmt.Sprintf("is no result of %s: %s is %v, the source's is %v", src, c.what, c.b, c.a), otherAdvice}
		}
	}
	return sameVocabulary(src, dst)
}

// sameVocabulary compares what the ids stand for. Files that differ in bytes
// alone are the same; those that cannot be read are for others to judge.
func sameVocabulary(src, dst string) error {
	a, errA := tokenizer.Load(src)
	b, errB := tokenizer.Load(dst)
	if errA != nil || errB != nil {
		return nil //nolint:nilerr // see above
	}
	for id := range max(a.MaxID(), b.MaxID()) + 1 {
		x, inA := a.Bytes(id)
		y, inB := b.Bytes(id)
		if x != y || inA != inB {
			return &Error{filepath.Join(dst, "tokenizer.json"), fmt.Sprintf("is another vocabulary than that of %s: id %d is %s there and %s here", src, id, token(x, inA), token(y, inB)), otherAdvice}
		}
	}
	return nil
}

func token(text string, ok bool) string {
	if !ok {
		return "nothing"
	}
	return fmt.Sprintf("%q", text)
}

// otherSource says why the result cannot be one of this source: most of what a
// conversion copies is different. Damage changes a few tensors, or what a
// manifest says of the files.
func (r *Result) otherSource() error {
	e := r.Exact
	if e.Differing < 3 || e.Differing <= e.Copied {
		return nil
	}
	return &Error{r.Identity.Result, fmt.Sprintf("is no result of %s: %d of %d tensors that a conversion copies have other values", r.Identity.Source, e.Differing, e.Differing+e.Copied), otherAdvice}
}
