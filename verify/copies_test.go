package verify_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/mutate"
	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/verify"
)

// TestCopiesOfTheMTPLayer: its embedding and head may be left out where they are
// the model's own, and may be there where the source shares them. What differs
// is lost.
func TestCopiesOfTheMTPLayer(t *testing.T) {
	const embed, head = "model.layers.3.embed_tokens.weight", "model.layers.3.shared_head.head.weight"
	out := func(names ...string) func(mutate.Set) {
		return func(s mutate.Set) {
			for _, n := range names {
				delete(s, n)
			}
		}
	}
	for name, c := range map[string]struct {
		src     string
		differs bool
		change  func(s mutate.Set)
		verdict verify.Verdict
		says    []string
	}{
		"both left out": {"nano-glm4moe", false, out(embed, head), verify.Pass,
			[]string{"2 of the MTP layer shared", embed + " is left out, and model.embed_tokens.weight has the same bytes: vLLM, SGLang and vllm-ascend take the model's own"}},
		"the head left out":          {"nano-glm4moe", false, out(head), verify.Pass, []string{"1 of the MTP layer shared", "lm_head.weight has the same bytes"}},
		"a head of its own left out": {"nano-glm4moe", true, out(head), verify.Fail, []string{head + " is in the source and not in the result"}},
		"another tensor left out":    {"nano-glm4moe", false, out("model.layers.3.hnorm.weight"), verify.Fail, []string{"model.layers.3.hnorm.weight"}},
		"copies that the source shares": {"nano-glm5", false, func(s mutate.Set) {
			for name, of := range map[string]string{embed: "model.embed_tokens.weight", head: "lm_head.weight"} {
				y := *s[of]
				y.Name = name
				s[name] = &y
			}
		}, verify.Pass, nil},
	} {
		t.Run(name, func(t *testing.T) {
			src := testkit.Shared(t, "reference/"+c.src)
			if c.differs {
				own := filepath.Join(t.TempDir(), "source")
				require.NoError(t, os.CopyFS(own, os.DirFS(src)))
				src = own
				_, err := mutate.Edit(src, func(s mutate.Set) (bool, error) { s[head].Data[3] ^= 1; return true, nil })
				require.NoError(t, err)
			}
			dst := convertTo(t, src, layout.W8A8, layout.CompressedTensors)
			_, err := mutate.Edit(dst, func(s mutate.Set) (bool, error) { c.change(s); return true, nil })
			require.NoError(t, err)
			require.NoError(t, os.Remove(filepath.Join(dst, quant.ManifestName)))
			r, text := static(t, src, dst)
			assert.Equal(t, c.verdict == verify.Fail, r.Verdict == verify.Fail, text)
			for _, says := range c.says {
				assert.Contains(t, text, says)
			}
		})
	}
}
