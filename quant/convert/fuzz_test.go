package convert

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/testkit"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/layout"
)

// FuzzReceipt reads any text as the receipt of a shard: what is accepted is of
// that shard, with a hash and the weights of its plan.
func FuzzReceipt(f *testing.F) {
	p, err := quant.NewPlan(open(f, demoModel(f)), layout.W8A8, layout.CompressedTensors, quant.Options{})
	require.NoError(f, err)
	c, file := &converter{plan: p}, &p.Files[0]
	good := &receipt{Name: file.Plan.Name, Size: file.Plan.Size, SHA256: string(make([]byte, 64)), Sum: "0123456789abcdef", Source: []sourceFile{{}}}
	for _, i := range file.Items {
		if it := &p.Items[i]; it.Action == quant.Quantize && len(good.Tensors) < 3 {
			good.Tensors = append(good.Tensors, tensorStats{Name: it.Name(), Scheme: it.Scheme})
		}
	}
	raw, err := json.Marshal(good)
	require.NoError(f, err)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r *receipt
		testkit.AllocatesWithin(t, len(raw), 600, 1<<20, func() { r = c.parseReceipt(raw, file) })
		if r == nil {
			return
		}
		require.Equal(t, file.Plan.Name, r.Name)
		require.Equal(t, file.Plan.Size, r.Size)
		require.Len(t, r.SHA256, 64)
		require.NotEmpty(t, r.Tensors)
	})
}
