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
