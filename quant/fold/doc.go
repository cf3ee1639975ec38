// Package fold moves powers of two between a tensor and the tensors that read
// its output, so that a model computes the same function, to the last bit, with
// weights that quantise better.
//
//	sites := fold.Sites(cfg)                         // what may be folded into what, by family
//	set := fold.NewSet()
//	set.Put(site, exponents)                         // one exponent a channel
//	scalings, err := set.Scalings(cfg)               // what becomes of each tensor, by name
//	err = scalings[name].Apply(data, dtype, 0, name) // in place, on the stored bytes
//
// # What is folded
//
// A [Site] has a producer and consumers. Channel j of the producer is divided
// by 2^e[j], column j of every consumer multiplied by it. Producers are norms
// (their gains), value rows (into o_proj) and up rows (into down_proj).
// Consumers are complete: routers, shared experts and indexers too, quantised
// or not, for a consumer that is left out makes the model wrong in silence.
// Sites that would not be exact are not listed: rows in front of a norm or of a
// rotary embedding, gate rows (SiLU), the final norm (both heads and hnorm of the
// MTP layer read it).
//
// # Why powers of two
//
// A power of two changes exponents alone: BF16 norms, routers and biases are
// not rounded, products and sums of the forward pass have the same mantissas,
// and the exponents that a manifest carries say how to undo all of it. Apply
// refuses what would leave the range of normal numbers of the stored type, so
// nothing is rounded in silence.
//
// # Other factors
//
// Other tools smooth by any factors: [Factors] are what becomes of each tensor,
// rounded once more, and [NewFactorReader] reads a checkpoint under them. Nothing
// here writes such a fold.
//
// # Gamma
//
// [Gamma] needs no data: the exponent of a norm's channel is that of its own
// gain, so that what the consumers see has gains within √2 of each other. Gains
// amplify outlier channels (arXiv 2209.13325); the fold undoes that.
package fold
