package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/glm"
)

// SGLang's loader takes the block size of merged linears from the target
// Linear, which belongs to the int4 experts: no degree loads the mixed file.
func TestMixedFileIsForVLLM(t *testing.T) {
	for _, preset := range []string{"glm-4.7-flash", "glm-5"} {
		cfg, err := glm.Preset(preset)
		require.NoError(t, err)
		loads := map[Engine]bool{}
		for _, r := range Loads(Subject{Config: cfg, Scheme: "w4a8-fp8", Format: "compressed-tensors", Group: 128, MTP: true, MTPFloat: true}) {
			loads[r.Engine] = loads[r.Engine] || r.Loads
			if r.Engine == SGLang {
				assert.Contains(t, r.Rule, "NoneType", r.Parallel)
			}
		}
		assert.Equal(t, map[Engine]bool{VLLM: true, SGLang: false, Ascend: false}, loads, preset)
	}
}
