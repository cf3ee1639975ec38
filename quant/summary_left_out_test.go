package quant

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/layout"
)

// TestRowsOfWhatIsLeftOut: what a result does not have is a line of its own and does
// not call the kept tensors of its kind dropped; that of an MTP layer is the layer's.
func TestRowsOfWhatIsLeftOut(t *testing.T) {
	item := func(action Action, bytes, written int64, reason string, tensor glm.Tensor) Item {
		return Item{Action: action, Bytes: bytes, Written: written, Reason: reason, Scheme: "BF16", Weight: layout.Weight{Tensor: &tensor}}
	}
	p := &Plan{Items: []Item{
		item(Copy, 100, 100, "", glm.Tensor{Param: "weight", Role: glm.Router}),
		item(Drop, 4, 0, "no use", glm.Tensor{Param: "k_scale", Layer: -1}),
		item(Drop, 4, 0, "no use", glm.Tensor{Param: "v_scale", Layer: -1}),
		item(Drop, 50, 0, "asked for", glm.Tensor{Param: "weight", Role: glm.Router, MTP: true, Layer: 3}),
	}}
	assert.Equal(t, []Row{
		{Kind: "router, embeddings, norms", Tensors: 1, Scheme: "BF16", Source: 100, Result: 100},
		{Kind: "MTP layer 3", Tensors: 1, Scheme: "dropped", Source: 50, Note: "asked for"},
		{Kind: "left out", Tensors: 2, Scheme: "dropped", Source: 8, Note: "no use"},
	}, p.Rows())
}
