package repair_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/repair"
)

// copiesOfMTP drops the MTP layer's embedding and head.
func copiesOfMTP(x tensor) []tensor {
	if strings.HasSuffix(x.Name, "layers.3.embed_tokens.weight") || strings.HasSuffix(x.Name, "shared_head.head.weight") {
		return nil
	}
	return []tensor{x}
}

// An Ascend folder of latent attention gets the copies that engines need there.
func TestAbsentCopies(t *testing.T) {
	_, base := reference(t, "nano-glm5")
	dir := converted(t, base, "w8a8", "ascend", quant.Options{})
	edit(t, dir, copiesOfMTP)
	p, r := repaired(t, dir, repair.Options{})
	require.NotEmpty(t, p.Steps)
	assert.Empty(t, p.Broken)
	assert.True(t, r.OK, r.Text())
	assert.False(t, r.Has("mtp-copy-missing"), r.Text())
	assert.Equal(t, read(t, dir, "lm_head.weight"), read(t, dir, "model.layers.3.shared_head.head.weight"))
}

// The release has none, and that is no fault: what adds them is said.
func TestAbsentCopiesOfARelease(t *testing.T) {
	dir, _ := reference(t, "nano-glm5")
	edit(t, dir, copiesOfMTP)
	p, err := repair.NewPlan(t.Context(), dir, repair.Options{})
	require.NoError(t, err)
	assert.Empty(t, p.Steps)
	assert.Empty(t, p.Broken)
	assert.Contains(t, p.Text(), "glmconv mtp-remap adds it")

	dir, _ = reference(t, "nano-glm4moe") // engines take the model's own
	edit(t, dir, copiesOfMTP)
	p, err = repair.NewPlan(t.Context(), dir, repair.Options{})
	require.NoError(t, err)
	assert.Equal(t, "nothing to repair\n", p.Text())
}

// A router bias of zeros was never trained: the base model's is taken.
func TestRouterBiasOfZeros(t *testing.T) {
	const name = "model.layers.1.mlp.gate.e_score_correction_bias"
	dir, base := reference(t, "nano-glm4moe")
	edit(t, dir, with(name, func(x *tensor) { clear(x.data) }))
	p, r := repaired(t, dir, repair.Options{Base: base})
	require.Len(t, p.Steps, 1)
	assert.Contains(t, p.Steps[0].Why, "0 throughout")
	assert.True(t, r.OK, r.Text())
	assert.Equal(t, read(t, base, name), read(t, dir, name))
}
