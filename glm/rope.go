package glm

import (
	"encoding/json"
	"math"
	"slices"
)

// parseRope reads the position encoding of either generation: rope_parameters
// (v5) wins field by field over the top-level fields and rope_scaling (v4).
// A loader that looks only at the top-level rope_theta gets a wrong base for
// GLM-5.2.
func (c *Config) parseRope(o object) {
	v5, v4 := o.sub("rope_parameters"), o.sub("rope_scaling")
	first := func(key string, places ...object) object {
		for _, p := range places {
			if p.has(key) {
				return p
			}
		}
		return places[len(places)-1]
	}
	for _, p := range []object{v5, v4} {
		for _, key := range []string{"rope_type", "type"} {
			if t := p.textOr(key, "default"); t != "default" {
				p.unsupported(key, "", "every published GLM uses plain rotary embedding; scaled variants are not implemented")
			}
		}
	}
	// A base has no safe default: 1e4, 5e5, 1e6 and 8e6 all occur.
	c.RopeTheta = first("rope_theta", v5, o).number("rope_theta")

	at := first("partial_rotary_factor", v5, o)
	if c.LatentAttention() {
		c.RopeWidth = c.QKRopeHeadDim
		c.RopeInterleaved = o.boolOr("rope_interleave", true)
		// Written relative to the slice (1) or to a head; never anything else.
		f := at.numberOr("partial_rotary_factor", 1)
		heads := []int{c.QKRopeHeadDim, c.QKHeadDim(), o.sizeOr("head_dim", c.QKRopeHeadDim, 1, maxHeadDim)}
		if !slices.ContainsFunc(heads, func(n int) bool { return math.Round(f*float64(n)) == float64(c.RopeWidth) }) {
			at.unsupported("partial_rotary_factor", "", "latent attention rotates the whole rope slice, %d dimensions", c.RopeWidth)
		}
	} else {
		c.RopeWidth = int(math.Trunc(float64(c.HeadDim) * math.Min(at.numberOr("partial_rotary_factor", 0.5), 2)))
		if c.RopeWidth > c.HeadDim {
			at.invalid("partial_rotary_factor", "must not be above 1")
		}
		if o.boolOr("rope_interleave", false) {
			o.unsupported("rope_interleave", "", "glm4_moe models rotate half-split pairs")
		}
	}
	if c.RopeWidth < 2 || c.RopeWidth%2 != 0 {
		at.invalid("partial_rotary_factor", "gives %d rotated dimensions; an even number above zero is needed", c.RopeWidth)
	}
	c.parseMRope(first("mrope_section", v5, v4))
}

// parseMRope reads the sections of the 3-axis rotation of glm4v_moe.
func (c *Config) parseMRope(o object) {
	const key = "mrope_section"
	if !c.NestedText() {
		if o.has(key) {
			o.unsupported(key, "", "only glm4v_moe has multi-axis rotary embedding")
		}
		return
	}
	if !o.has(key) {
		o.invalid(key, "missing, and the model cannot be described without it")
		return
	}
	if err := json.Unmarshal(o.fields[key], &c.MRopeSections); err != nil || len(c.MRopeSections) != 3 {
		o.invalid(key, "must be a list of three integers")
		return
	}
	sum := 0
	for _, n := range c.MRopeSections {
		if n < 0 || n > maxHeadDim {
			o.invalid(key, "must be a list of three integers, none negative")
			return
		}
		sum += n
	}
	if sum != c.RopeWidth/2 {
		o.invalid(key, "sums to %d, but there are %d frequencies", sum, c.RopeWidth/2)
	}
}
