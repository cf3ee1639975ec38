package quant

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant/layout"
)

// What we write resolves in every engine that can read it to what is stored,
// for every module of trunk and draft.
func TestEnginesResolveWhatIsStored(t *testing.T) {
	for _, model := range models {
		src := open(t, testkit.Shared(t, "reference/"+model))
		for _, s := range layout.Schemes {
			for _, f := range layout.Formats {
				for _, mtp := range []layout.MTPMode{"", layout.MTPQuantize, layout.MTPFloat} {
					if layout.Supported(s, f) != nil || s == W4A8FP8 {
						continue
					}
					p, err := NewPlan(src, s, f, Options{MTP: mtp})
					require.NoError(t, err)
					bad, err := p.VerifyMatching()
					require.NoError(t, err)
					assert.Empty(t, bad, "%s %s %s --mtp %q", model, s, f, mtp)
				}
			}
		}
	}
}
