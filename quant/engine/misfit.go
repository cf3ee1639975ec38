package engine

import (
	"slices"
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// Misfit is a module that an engine builds for one kind of weight and a
// checkpoint stores as another. A weight that is not quantized is in full
// precision.
type Misfit struct {
	Layout   Layout
	Module   Module
	Built    Resolution
	Stored   format.Weight
	OwnNames bool // the stored codes are not called weight
}

// Misfit says what becomes of a module that is built otherwise than it is
// stored, and what that makes of the checkpoint: Differs where nothing notices.
func (r Release) Misfit(x Misfit) (how string, answer Answer) { return r.spec.misfit(&x) }

// What becomes of such a module, in the words of findings.
const (
	tookHalf   = "the first half of its columns is cast to packed codes, no scale is set, no error"
	tookValues = "its values are cast to codes, no scale is set, no error"
	packedGone = "its packed tensors are missing"
	otherShape = "its codes have another shape than the weight, or no parameter to go to"
	noScale    = "the scale has no parameter to go to"
	otherNames = "names or shapes differ"
)

// ownNames reports whether the codes that the module is built for are not
// called weight: words of integers, and FP4 of compressed-tensors.
func (x *Misfit) ownNames() bool {
	w := x.Built.Weight
	switch x.Layout {
	case GPTQ, AWQ:
		return true
	case AutoRound:
		return w.Type == format.Int || w.Bits == 4
	case CompressedTensors:
		if g := x.Built.group; g != nil {
			return g.Weights.Packing != format.Bytes
		}
	}
	return false
}

// halfWide reports whether they are called weight and lie two in a byte.
func (x *Misfit) halfWide() bool {
	return (x.Layout == ModelOpt || x.Layout == Quark) && onlyFloat4(x.Built.Weight)
}

// splitByInput reports whether the module is a linear that is split by its
// inputs: loaders of those take as many columns of a tensor as they hold.
func (x *Misfit) splitByInput() bool {
	return x.Module.Kind == Linear && slices.ContainsFunc([]string{".o_proj", ".down_proj", ".attn.proj"},
		func(end string) bool { return strings.HasSuffix(x.Module.Name, end) })
}
