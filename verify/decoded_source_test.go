package verify_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/verify"
	"github.com/glmconv/glmconv/verify/report"
)

// TestOracleOfDecodedSources: codes of a quantized source are what both arithmetics
// make of it, by a manifest and without one. The reference tools decode to BF16
// first, which ours does not.
func TestOracleOfDecodedSources(t *testing.T) {
	tests := []struct {
		name, source string
		scheme       layout.Scheme
		format       layout.Format
	}{
		{"int8 from blocks", "nano-glm5-fp8", layout.W8A8, layout.CompressedTensors},
		{"int4 from channels", "nano-glm4moe-fp8", layout.W4A16, layout.CompressedTensors},
		{"Ascend from blocks", "nano-glm5-fp8", layout.W4A8, layout.Ascend},
		{"FP4 from blocks", "nano-glm5-fp8", layout.NVFP4A16, layout.CompressedTensors},
		{"MX from channels", "nano-glm4moe-fp8", layout.MXFP4A16, layout.CompressedTensors},
	}
	for _, tt := range tests {
		src := testkit.Shared(t, "reference/sources/"+tt.source)
		for name, arith := range map[string]numeric.Arith{"best": numeric.Best, "compat": numeric.Compat} {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				dst := convertAs(t, src, tt.scheme, tt.format, quant.Options{Arith: arith})
				for range 2 {
					r, err := verify.Static(t.Context(), src, dst, verify.StaticOptions{})
					require.NoError(t, err)
					assert.Empty(t, r.Failed, report.Text(r))
					require.NotEmpty(t, r.Tensors)
					require.NoError(t, os.RemoveAll(filepath.Join(dst, quant.ManifestName)))
				}
			})
		}
	}
}
