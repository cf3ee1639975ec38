package check

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func inVision(key string, v any) func(*testing.T, string) {
	return config(func(m map[string]any) { m["vision_config"].(map[string]any)[key] = v })
}

// keyMutations are keys of config.json that the tensors belie: one error each.
var keyMutations = []mutation{
	{"more dense layers", "nano-glm4moe", settings("config.json", "first_k_dense_replace", 2), "config-key-wrong", "first_k_dense_replace", true, nil},
	{"no dense layers", "nano-glm4moe", settings("config.json", "first_k_dense_replace", 0), "config-key-wrong", "first_k_dense_replace", true, nil},
	{"dense layers said twice", "nano-glm5", settings("config.json", "first_k_dense_replace", 0), "config-key-wrong", "first_k_dense_replace", true, nil},
	{"biases denied", "nano-glm4moe", settings("config.json", "attention_bias", false), "config-key-wrong", "attention_bias", true, nil},
	{"norms claimed", "nano-glm4moe", settings("config.json", "use_qk_norm", true), "config-key-wrong", "use_qk_norm", true, nil},
	{"norms denied", "tiny-glm4moe", settings("config.json", "use_qk_norm", false), "config-key-wrong", "use_qk_norm", true, nil},
	{"a block too many", "nano-glm45v", inVision("depth", 3), "config-key-wrong", "vision_config.depth", true, nil},
	{"a block too few", "nano-glm45v", inVision("depth", 1), "config-key-wrong", "vision_config.depth", true, nil},
	{"wider MLP of the tower", "nano-glm45v", inVision("intermediate_size", 256), "config-size", "vision_config.intermediate_size", true, nil},
	{"wider tower", "nano-glm45v", inVision("hidden_size", 128), "config-size", "vision_config.hidden_size", true, nil},
	{"wider values", "nano-glm5", settings("config.json", "v_head_dim", 96), "config-size", "v_head_dim", true, nil},
	{"wider indexer", "nano-glm5", settings("config.json", "index_head_dim", 64), "config-size", "index_head_dim", true, nil},
	{"wider dense MLP", "nano-glm5", settings("config.json", "intermediate_size", 512), "config-size", "intermediate_size", true, nil},
}

func init() { mutations = append(mutations, keyMutations...) }

// TestWrongKeyIsOneError: missing and misfit tensors only follow from the key.
func TestWrongKeyIsOneError(t *testing.T) {
	for _, m := range keyMutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := good(t, m.base)
			m.damage(t, dir)
			for _, f := range examine(t, dir, Options{}).Findings {
				if f.Severity == Error || strings.HasPrefix(f.Code, "tensor-") {
					assert.Equal(t, m.code, f.Code, "%s: %s", f.Where, f.Detail)
				}
			}
		})
	}
}
