package glm

import (
	"fmt"
	"strconv"
	"strings"
)

// symbols are the names that shapes in the family tables are written with;
// the letters are those of docs/facts/families.md.
var symbols = map[string]func(c *Config) int{
	"V":  func(c *Config) int { return c.VocabSize },
	"H":  func(c *Config) int { return c.HiddenSize },
	"NH": func(c *Config) int { return c.Heads },
	"KV": func(c *Config) int { return c.KVHeads },
	"D":  func(c *Config) int { return c.HeadDim },
	"I":  func(c *Config) int { return c.IntermediateSize },
	"M":  func(c *Config) int { return c.MoEIntermediateSize },
	"E":  func(c *Config) int { return c.Experts },
	"S":  func(c *Config) int { return c.SharedExperts },

	// Latent attention: ranks, widths of a head.
	"QR":   func(c *Config) int { return c.QLoraRank },
	"KR":   func(c *Config) int { return c.KVLoraRank },
	"NOPE": func(c *Config) int { return c.QKNopeHeadDim },
	"ROPE": func(c *Config) int { return c.QKRopeHeadDim },
	"VD":   func(c *Config) int { return c.VHeadDim },
	"IH":   func(c *Config) int { return c.IndexHeads },
	"ID":   func(c *Config) int { return c.IndexHeadDim },

	// Vision tower.
	"Hv": func(c *Config) int { return c.Vision.HiddenSize },
	"O":  func(c *Config) int { return c.Vision.OutHiddenSize },
	"Iv": func(c *Config) int { return c.Vision.IntermediateSize },
	"C":  func(c *Config) int { return c.Vision.InChannels },
	"T":  func(c *Config) int { return c.Vision.TemporalPatch },
	"P":  func(c *Config) int { return c.Vision.PatchSize },
	"G":  func(c *Config) int { return c.Vision.MergeSize },
	"N":  func(c *Config) int { return c.Vision.ImageSize / c.Vision.PatchSize },
}

// evalShape computes a shape expression: dimensions separated by spaces, each
// a sum of products of symbols and integers, as "NH*NOPE+NH*VD KR". The
// tables are constants of this package, so a bad expression is a bug (a test
// evaluates every row).
func evalShape(c *Config, expr string) []int64 {
	fields := strings.Fields(expr)
	shape := make([]int64, len(fields))
	for i, f := range fields {
		for term := range strings.SplitSeq(f, "+") {
			product := int64(1)
			for factor := range strings.SplitSeq(term, "*") {
				product *= evalSymbol(c, factor)
			}
			shape[i] += product
		}
	}
	return shape
}

func evalSymbol(c *Config, s string) int64 {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	fn, ok := symbols[s]
	if !ok {
		panic(fmt.Sprintf("glm: unknown symbol %q in a family table", s))
	}
	return int64(fn(c))
}
