package mtp

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/safetensors"
)

// TestQuantizedCheckpoints: the layer of checkpoints in every quantized form is
// completed like that of any other, with copies in full precision beside its
// codes; a head that Z.ai's releases hold in FP8 is left as it is, and what is
// refused is what no engine reads.
func TestQuantizedCheckpoints(t *testing.T) {
	const layer = "model.layers.3."
	both := []string{layer + "embed_tokens.weight", layer + "shared_head.head.weight"}
	for _, tc := range []struct {
		dir    string
		copies []string
		kind   error
		says   string
	}{
		{"sources/nano-glm5-fp8", both, nil, ""},
		{"sources/nano-glm4moe-fp8", nil, nil, ""}, // holds both, the head in FP8
		{"nano-glm4moe-quantized/FP8_DYNAMIC", nil, nil, ""},
		{"nano-glm4moe-quantized/W4A8", nil, nil, ""},
		{"nano-glm4moe-quantized/NVFP4A16", nil, nil, ""},
		{"foreign/autoround-mxfp4", both, nil, ""},
		{"foreign/quark-mxfp4", both, nil, ""},
		{"foreign/awq", both, nil, ""},
		{"foreign/gptq-asym", both, nil, ""},
		{"foreign/gptq-int4-int8", both, nil, ""},
		{"foreign/autoround-gptq", nil, ErrQuantized, "eh_proj is stored in codes"},
		{"foreign/modelopt-nvfp4", nil, ErrNoMTP, "hold no MTP layer 3"}, // the tool drops it
		{"foreign/modelopt-fp8", nil, ErrNoMTP, "hold no MTP layer 3"},
	} {
		t.Run(tc.dir, func(t *testing.T) {
			r, err := NewRemap(testkit.Shared(t, "reference/"+tc.dir), Options{})
			if tc.kind != nil {
				require.ErrorIs(t, err, tc.kind)
				assert.Contains(t, err.Error(), tc.says)
				return
			}
			require.NoError(t, err)
			var names []string
			for _, c := range r.Copies {
				names = append(names, c.Name)
			}
			assert.Equal(t, tc.copies, names)
			assert.Equal(t, len(tc.copies) == 0, r.Done)
			if r.Done {
				return
			}
			dir := clone(t, tc.dir)
			before, err := safetensors.OpenDir(dir)
			require.NoError(t, err)
			old := before.Tensors()
			require.NoError(t, before.Close())
			r, err = NewRemap(dir, Options{})
			require.NoError(t, err)
			require.NoError(t, r.Apply(t.Context()))
			after, err := safetensors.OpenDir(dir)
			require.NoError(t, err)
			defer after.Close()
			assert.Len(t, after.Tensors(), len(old)+2)
			for _, x := range old {
				have, ok := after.Info(x.Name)
				assert.True(t, ok && have.Offset == x.Offset && have.File == x.File, x.Name)
			}
			for _, c := range tc.copies {
				from := "lm_head.weight"
				if strings.Contains(c, "embed") {
					from = "model.embed_tokens.weight"
				}
				assert.Equal(t, content(t, after, from), content(t, after, c), filepath.Base(c))
			}
		})
	}
}

// content reads a tensor.
func content(t *testing.T, c *safetensors.Checkpoint, name string) []byte {
	info, ok := c.Info(name)
	require.True(t, ok, name)
	b := make([]byte, info.Size)
	require.NoError(t, c.ReadAt(info, 0, b))
	return b
}
