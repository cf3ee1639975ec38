package convert

import (
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/glm/origin"
	"github.com/glmconv/glmconv/quant"
)

// noteZeros notes a weight that has zeros where weights should be, and a bias
// that is zero: whether rightly, all layers together tell (onlyFew).
func (r *receipt) noteZeros(it *quant.Item, zero int64) {
	whole, region := origin.Zeros(it.Weight.Tensor, zero, it.Bytes, false)
	if ofLayers(it.Weight.Tensor) {
		whole = zero > 0 && zero == it.Bytes
	}
	if (whole || region) && it.Action != quant.Alias && it.Action != quant.Make {
		r.Zeros = append(r.Zeros, quant.Zeros{Name: it.Name(), File: it.Source.File, Zero: zero, Bytes: it.Bytes})
	}
}

// ofLayers reports whether a tensor may be zero in every layer.
func ofLayers(t *glm.Tensor) bool {
	return t.Layer >= 0 && (t.Param == "bias" || t.Role == glm.RouterBias)
}

// onlyFew leaves out the biases that are zero in most layers.
func (c *converter) onlyFew(zeros []quant.Zeros) []quant.Zeros {
	at := map[string]string{} // bias → its name without the layer
	all, zero := map[string]int{}, map[string]int{}
	for i := range c.plan.Items {
		if t := c.plan.Items[i].Weight.Tensor; ofLayers(t) {
			at[c.plan.Items[i].Name()] = origin.LayerName(t)
			all[origin.LayerName(t)]++
		}
	}
	for _, z := range zeros {
		if name, ok := at[z.Name]; ok {
			zero[name]++
		}
	}
	return slices.DeleteFunc(zeros, func(z quant.Zeros) bool {
		name, ok := at[z.Name]
		return ok && !origin.Few(zero[name], all[name])
	})
}
