package repair

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/mtp"
	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/safetensors"
)

// base is the base model that tensors are taken from.
type base struct {
	ckpt    *safetensors.Checkpoint
	alike   bool   // it is quantized as the folder is: its codes fit as well
	rotated string // why only tensors that no rotation touches fit, "" if all do
}

// openBase reads the headers of the base model and compares what must be equal.
// A folder that is not quantized, or whose declaration is stale, takes from a
// base that is not; a quantized one from either, codes only from one that is
// quantized alike.
func openBase(cfg *glm.Config, description []byte, dir, from string, stale bool) (*base, error) {
	b, err := glm.LoadConfig(from)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		what       string
		have, want any
	}{
		{"family", b.Family, cfg.Family}, {"hidden_size", b.HiddenSize, cfg.HiddenSize}, {"num_hidden_layers", b.Layers, cfg.Layers},
		{"n_routed_experts", b.Experts, cfg.Experts}, {"moe_intermediate_size", b.MoEIntermediateSize, cfg.MoEIntermediateSize},
		{"num_attention_heads", b.Heads, cfg.Heads},
	} {
		if c.have != c.want {
			return nil, fmt.Errorf("%w: %s: its %s is %v, that of the folder %v", ErrBase, from, c.what, c.have, c.want)
		}
	}
	theirs, err := fsx.ReadIn(from, declaration.DescriptionName, fsx.MaxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := &base{}
	if theirs != nil || b.Quantization != "" {
		out.alike = !stale && (description != nil) == (theirs != nil) && sameJSON(cfg.QuantizationConfig, b.QuantizationConfig)
		if !out.alike {
			return nil, fmt.Errorf("%w: %s: it is quantized in another way than the folder (%s and %s); a base model in full precision is needed, or one that is quantized alike",
				ErrBase, from, method(b, theirs), method(cfg, description))
		}
	}
	if out.ckpt, err = safetensors.OpenDir(from); err != nil {
		return nil, err
	}
	if err := out.compareRotation(cfg, description, theirs, dir); err != nil {
		return nil, errors.Join(err, out.ckpt.Close())
	}
	return out, nil
}

func method(c *glm.Config, description []byte) string {
	switch {
	case description != nil:
		return "an Ascend description"
	case c.Quantization != "":
		return "quant_method " + c.Quantization
	}
	return "full precision"
}

// compareRotation notes that the folder was rotated and the base was not: what
// lies between the layers then has other values.
func (b *base) compareRotation(cfg *glm.Config, description, theirs []byte, dir string) error {
	own, err := safetensors.OpenDirOptions(dir, safetensors.Options{AllErrors: true})
	if err != nil {
		return err
	}
	defer own.Close()
	here, there := mtp.Rotated(cfg, own, description), mtp.Rotated(cfg, b.ckpt, theirs)
	var e *mtp.Error
	for _, err := range []error{here, there} {
		if err != nil && !errors.As(err, &e) {
			return err
		}
	}
	if (here == nil) != (there == nil) {
		b.rotated = "one of the two is rotated and the other is not, so their weights do not fit each other"
	}
	return nil
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return len(a) == len(b) && bytes.Equal(a, b)
	}
	p, perr := json.Marshal(x)
	q, qerr := json.Marshal(y)
	return perr == nil && qerr == nil && bytes.Equal(p, q)
}

func isFloat(t safetensors.DType) bool {
	return t == safetensors.BF16 || t == safetensors.F16 || t == safetensors.F32
}

// take returns the base's tensor for a row that the folder lacks, or why there
// is none that fits. declared tells whether the folder's declaration says that
// the row's module is quantized.
func (b *base) take(row *glm.Tensor, declared bool) (t safetensors.Info, why string) {
	t, ok := b.ckpt.Info(row.Name)
	switch {
	case !ok:
		return t, "the base model does not have it either"
	case b.rotated != "" && row.Role != glm.RouterBias:
		return t, b.rotated
	case !isFloat(t.DType):
		return t, fmt.Sprintf("the base model's is %s", t.DType)
	case !slices.Equal(t.Shape, row.Shape):
		return t, fmt.Sprintf("the base model's is %v, %v is needed", t.Shape, row.Shape)
	case declared && !b.alike && !row.MTP:
		return t, "the folder is quantized there and the base model is not; convert the base model alike and take it from that"
	}
	return t, ""
}
