package quant

import "github.com/glmconv/glmconv/glm/origin"

// Zeros is a weight of the source that is zero, or has a region of zeros with
// the look of an unfinished download. A conversion sees every byte and says
// so; what it makes of such a weight is what is stored.
type Zeros struct {
	Name  string `json:"name"`
	File  string `json:"file"`  // of the source
	Zero  int64  `json:"zero"`  // bytes in pages of zeros
	Bytes int64  `json:"bytes"` // of the weight
}

// String says it in a sentence.
func (z Zeros) String() string {
	return z.File + ": " + z.Name + ": " + origin.SayZeros(z.Zero, z.Bytes)
}

// noteZeros notes a weight that has zeros where weights should be.
func (r *receipt) noteZeros(it *Item, zero int64) {
	whole, region := origin.Zeros(&it.Weight.Tensor, zero, it.Bytes, false)
	if (whole || region) && it.Action != Alias {
		r.Zeros = append(r.Zeros, Zeros{it.Name(), it.Source.File, zero, it.Bytes})
	}
}
