package quant

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/safetensors"
)

// TestOutputsAreTheFiles compares what items are given with what files hold: side
// by side or, with odd sizes, in the tail of a file.
func TestOutputsAreTheFiles(t *testing.T) {
	for name, format := range map[string]layout.Format{"glm-4.7-flash": layout.Ascend, "glm-4.5v": layout.CompressedTensors} {
		t.Run(name, func(t *testing.T) {
			p, err := PlanPublished(name, W4A8, format, Options{})
			require.NoError(t, err)
			want := map[string]safetensors.Info{}
			bytes := int64(0)
			for _, f := range p.Files {
				bytes += f.Plan.Size
				for _, o := range f.Plan.Tensors {
					want[o.Name] = o
				}
				assert.EqualValues(t, f.Plan.HeaderSize(), len(f.Plan.Header()))
			}
			for i := range p.Items {
				for _, o := range p.Items[i].Outputs {
					assert.Equal(t, want[o.Name], o)
					delete(want, o.Name)
				}
			}
			assert.Empty(t, want)
			index, err := p.Index()
			require.NoError(t, err)
			for _, c := range p.Configs {
				bytes += int64(len(c))
			}
			assert.Equal(t, bytes+int64(len(index)), p.ResultBytes)
		})
	}
}

// TestHand gives items outputs that lie apart, in part and side by side.
func TestHand(t *testing.T) {
	p := &Plan{Items: make([]Item, 4)}
	outs := [][]safetensors.Spec{make([]safetensors.Spec, 2), make([]safetensors.Spec, 3), nil, make([]safetensors.Spec, 1)}
	order := []OutputRef{{0, 0}, {0, 1}, {1, 1}, {3, 0}, {1, 2}, {1, 0}}
	tensors := make([]safetensors.Info, len(order))
	for i := range tensors {
		tensors[i].Offset = int64(i)
	}
	p.hand(order, tensors, outs)
	assert.Equal(t, tensors[:2], p.Items[0].Outputs)
	assert.Equal(t, []safetensors.Info{tensors[5], tensors[2], tensors[4]}, p.Items[1].Outputs)
	assert.Empty(t, p.Items[2].Outputs)
	assert.Equal(t, tensors[3:4], p.Items[3].Outputs)
}
