package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"

	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// subject is what is compared, and how, by what does not depend on the machine:
// parts of one comparison agree in it.
type subject struct {
	Source, Result string // SHA-256 of headers, configs and a sample of the bytes
	Tokens         string // of all ids; "" without a forward pass
	Options        string // those that change a figure
}

// differs says in what two subjects are not the same, or "".
func (s subject) differs(x subject) string {
	switch {
	case s.Source != x.Source:
		return "the source is another one"
	case s.Result != x.Result:
		return "the result is another one"
	case s.Options != x.Options:
		return fmt.Sprintf("its options are %s and not %s", x.Options, s.Options)
	case s.Tokens != x.Tokens:
		return "it reads other tokens"
	}
	return ""
}

func (o *Options) subject(ctx context.Context, src, dst string) (s subject, err error) {
	o.setDefaults()
	s.Options = fmt.Sprintf("tolerance %g, reference %q, memory %d, all tokens %t, forward pass %t", o.Tol, o.Reference, o.MaxMemory, o.AllTokens, !o.SkipForward)
	if s.Source, err = folderDigest(ctx, src); err != nil {
		return s, err
	}
	s.Result, err = folderDigest(ctx, dst)
	return s, err
}

// digestSample is how many tensors are sampled, and digestBytes how much of each.
const digestSample, digestBytes = 64, 4096

// folderDigest tells checkpoints apart, wherever they lie: by the names, types,
// shapes and places of their tensors, some bytes in the middle of a sample of
// them, configuration and manifest. A checkpoint of which not all can be read has
// a digest of what can.
func folderDigest(ctx context.Context, dir string) (string, error) {
	h := sha256.New()
	c, err := safetensors.OpenDirOptions(dir, safetensors.Options{AllErrors: true})
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	list := c.Tensors()
	for _, t := range list {
		fmt.Fprintf(h, "%q %s %v %q %d\n", t.Name, t.DType, t.Shape, t.File, t.Offset)
	}
	n := min(digestSample, len(list))
	for i := range n {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		t := list[(2*i+1)*len(list)/(2*n)]
		raw := make([]byte, min(t.Size, digestBytes))
		if err := c.ReadAt(t, (t.Size-int64(len(raw)))/2, raw); err != nil {
			return "", err
		}
		h.Write(raw)
	}
	for _, name := range []string{"config.json", layout.DescriptionName, quant.ManifestName} {
		if err := digestFile(h, dir, name); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func digestFile(h hash.Hash, dir, name string) error {
	raw, err := fsx.ReadIn(dir, name, fsx.MaxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Fprintf(h, "%q %d\n%s\n", name, len(raw), raw)
	return nil
}
