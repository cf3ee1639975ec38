package quant

import (
	"slices"
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
				for _, o := range f.Plan.Tensors() {
					want[o.Name] = o
				}
				assert.EqualValues(t, f.Plan.HeaderSize(), len(f.Plan.Header()))
			}
			for i := range p.Items {
				it := &p.Items[i]
				at, written := it.At, int64(0)
				outputs := p.Outputs(it)
				for k, o := range outputs {
					have := want[o.Name]
					written += have.Size
					assert.Equal(t, o, safetensors.Spec{Name: have.Name, DType: have.DType, Shape: have.Shape})
					assert.Equal(t, p.Files[it.File].Plan.Name, have.File)
					if k == 0 {
						assert.Equal(t, it.First, have.Size)
					}
					if !slices.Contains(p.Files[it.File].Tail, OutputRef{i, k}) {
						assert.Equal(t, at, have.Offset, o.Name)
						at += have.Size
					}
					delete(want, o.Name)
				}
				assert.Equal(t, len(outputs), it.Outputs)
				assert.Equal(t, written, it.Written)
			}
			assert.Empty(t, want)
			index, err := p.Index()
			require.NoError(t, err)
			for _, c := range p.Configs {
				bytes += int64(len(c.Bytes()))
			}
			assert.Equal(t, bytes+int64(len(index)), p.ResultBytes)
		})
	}
}
