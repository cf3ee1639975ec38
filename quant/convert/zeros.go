package convert

import (
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/quant"
)

// noteZeros notes a weight that has zeros where weights should be.
func (r *receipt) noteZeros(it *quant.Item, zero int64) {
	whole, region := origin.Zeros(&it.Weight.Tensor, zero, it.Bytes, false)
	if (whole || region) && it.Action != quant.Alias && it.Action != quant.Make {
		r.Zeros = append(r.Zeros, quant.Zeros{Name: it.Name(), File: it.Source.File, Zero: zero, Bytes: it.Bytes})
	}
}
