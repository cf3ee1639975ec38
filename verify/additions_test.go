package verify_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify"
)

// TestAdditions: tensors that the source does not have are no part of a result.
func TestAdditions(t *testing.T) {
	src := testkit.Shared(t, "reference/nano-glm4moe")
	for name, c := range map[string]struct {
		add     func(s mutate.Set)
		verdict verify.Verdict
		says    string
	}{
		"one more expert": {func(s mutate.Set) {
			for n, x := range s {
				if strings.HasPrefix(n, "model.layers.1.mlp.experts.0.") {
					y := *x
					y.Name = strings.Replace(n, "experts.0.", "experts.99.", 1)
					s[y.Name] = &y
				}
			}
		}, verify.Fail, "experts.99"},
		"a fused copy": {func(s mutate.Set) {
			y := *s["model.layers.0.self_attn.q_proj.weight"]
			y.Name = "model.layers.0.self_attn.qkv_proj.weight"
			s[y.Name] = &y
		}, verify.Fail, "qkv_proj"},
		"an adapter": {func(s mutate.Set) {
			y := *s["model.norm.weight"]
			y.Name = "model.layers.0.self_attn.q_proj.lora_A.weight"
			s[y.Name] = &y
		}, verify.Fail, "lora_A"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
			_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) { c.add(s); return true, nil })
			require.NoError(t, err)
			require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
			r, text := static(t, src, dst)
			assert.Equal(t, c.verdict, r.Verdict, text)
			assert.Contains(t, text, c.says)
		})
	}
}
