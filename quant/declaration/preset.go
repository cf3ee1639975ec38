package declaration

import (
	"strings"

	"github.com/glmconv/glmconv/quant/format"
)

// presets are the schemes that compressed-tensors knows by name
// (0.20.1 quant_scheme.py, PRESET_SCHEMES): a group may be one of these names
// with a list of its targets.
var presets = map[string]struct {
	weights format.Weight
	input   format.Activation
	format  string // what the library infers
}{
	"W8A16":       {format.Integer(8, 128), format.Activation{}, "pack-quantized"},
	"W4A16":       {format.Int4(128), format.Activation{}, "pack-quantized"},
	"W4A16_ASYM":  {format.Weight{Type: format.Int, Bits: 4, Strategy: format.Group, Group: 128, ZeroPoints: true}, format.Activation{}, "pack-quantized"},
	"W8A8":        {format.Int8, format.Int8Token, "int-quantized"},
	"INT8":        {format.Int8, format.Int8Token, "int-quantized"},
	"W4A8":        {format.Int4(128), format.Int8Token, "int-quantized"},
	"W4AFP8":      {format.Int4(128), format.Float8Token, "int-quantized"},
	"FP8":         {perTensor, staticTensor, "float-quantized"},
	"FP8_DYNAMIC": {format.Float8, format.Float8Token, "float-quantized"},
	"FP8_BLOCK":   {format.Float8Block, format.Float8Group, "float-quantized"},
	"NVFP4A16":    {format.NVFP4, format.Activation{}, "nvfp4-pack-quantized"},
	"NVFP4":       {format.NVFP4, format.NVFP4Local, "nvfp4-pack-quantized"},
	"MXFP4A16":    {format.MXFP4, format.Activation{}, "mxfp4-pack-quantized"},
	"MXFP4":       {format.MXFP4, format.MXFP4Group, "mxfp4-pack-quantized"},
	"MXFP8A16":    {format.MXFP8, format.Activation{}, "mxfp8-quantized"},
	"MXFP8":       {format.MXFP8, format.MXFP8Group, "mxfp8-quantized"},
}

// FP8 with one scale for a tensor.
var (
	perTensor     = format.Weight{Type: format.Float, Bits: 8, Strategy: format.Tensor}
	staticTensor  = format.Activation{Type: format.Float, Bits: 8, Strategy: format.Tensor, When: format.Static}
	dynamicTensor = format.Activation{Type: format.Float, Bits: 8, Strategy: format.Tensor}
)

// preset reads a group that is the name of a scheme with its targets.
func (r *reader) preset(groups *object, name string) {
	known, ok := presets[strings.ToUpper(name)]
	if !ok {
		r.add(groups.at(name), Unsupported, "the group is a list of targets, and %q is not the name of a scheme that is known here", name)
		return
	}
	g := Group{Name: name, Path: groups.at(name), Preset: true, Weights: known.weights, Input: known.input, WeightOnly: !known.input.Quantized()}
	if r.d.Format == "" {
		g.Format = known.format
	}
	if r.d.FormatOf(&g) == "pack-quantized" {
		g.Weights.Packing = format.Words
	}
	r.patterns(&g.Targets, groups, name, Exact)
	r.agree(groups.sub(name+".format"), &g)
	r.d.Groups = append(r.d.Groups, g)
}
