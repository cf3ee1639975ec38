package check

import (
	"encoding/json"
	"fmt"

	"github.com/glmconv/glmconv/quant/declaration"
	"github.com/glmconv/glmconv/quant/format"
)

// declared is what a checkpoint says of its own quantisation: the author's
// intention by checkpoint names, as opposed to what each engine makes of it.
type declared struct {
	*declaration.Declaration
	method string // "compressed-tensors", "fp8", "ascend", another, or "" for none
	groups []group
	scheme map[string]string // ascend: tensor name → entry
}

// group is one config group of compressed-tensors.
type group struct {
	name string
	acts *quantArgs
}

// quantArgs are what the engines' rules ask of activations.
type quantArgs struct{ Type string }

// parseDeclared reads a quantization_config object. The error is the first
// field that breaks a rule of its format.
func parseDeclared(raw json.RawMessage) (*declared, error) {
	d, err := declaration.Config(raw)
	if err != nil {
		return nil, err
	}
	return newDeclared(d)
}

func newDeclared(d *declaration.Declaration) (*declared, error) {
	out := &declared{Declaration: d, method: string(d.Method)}
	for i := range d.Groups {
		g := group{name: d.Groups[i].Name}
		switch d.Groups[i].Input.Type {
		case format.Int:
			g.acts = &quantArgs{"int"}
		case format.Float:
			g.acts = &quantArgs{"float"}
		}
		out.groups = append(out.groups, g)
	}
	for _, p := range d.Problems {
		if p.Kind == declaration.Invalid {
			return out, fmt.Errorf("%s", p)
		}
	}
	return out, nil
}

// formOf returns how weights of a declared group lie on disk; foreign for
// what check has no rules for.
func formOf(d *declaration.Declaration, g *declaration.Group) form {
	w, name := g.Weights, d.FormatOf(g)
	size := 0
	if w.Strategy == format.Group {
		size = w.Group
	}
	switch {
	case !g.Judged, w.ZeroPoints, g.Order == "group":
	case w.SameCodes(format.Float8Block) && d.Method == declaration.FP8:
		return form{kind: fp8BlockInv}
	case w.SameCodes(format.Float8Block):
		return form{kind: fp8Block}
	case w.SameCodes(format.Float8):
		return form{kind: fp8Channel}
	case w.SameCodes(format.Int8) && name == "int-quantized":
		return form{kind: int8Channel}
	case w.SameCodes(format.NVFP4) && name == "nvfp4-pack-quantized" && g.Input.When == format.Local:
		return form{kind: nvfp4Local, group: 16}
	case w.SameCodes(format.NVFP4) && name == "nvfp4-pack-quantized":
		return form{kind: nvfp4, group: 16}
	case w.SameCodes(format.MXFP4) && name == "mxfp4-pack-quantized":
		return form{kind: mxfp4, group: 32}
	case w.SameCodes(format.MXFP8) && name == "mxfp8-quantized":
		return form{kind: mxfp8, group: 32}
	case w.SameCodes(format.Integer(8, size)) && name == "pack-quantized":
		return form{kind: int8Packed, group: size}
	case w.SameCodes(format.Int4(size)) && name == "pack-quantized":
		return form{kind: int4Packed, group: size}
	case w.SameCodes(format.Int4(size)) && name == "int-quantized":
		return form{kind: int4Bytes, group: size}
	}
	return form{kind: foreign}
}

// want returns what the config intends for a linear module, by its checkpoint
// name: ignored, or the form of its group. A module in no group is plain.
func (d *declared) want(module string) (f form, ignored bool, groupName string) {
	switch d.method {
	case "compressed-tensors", "fp8":
		s := d.Of(module)
		if s.Group == nil {
			return form{kind: plain}, s.Ignored != nil, ""
		}
		return formOf(d.Declaration, s.Group), false, s.Group.Name
	case "ascend":
		switch d.scheme[module+".weight"] {
		case "FLOAT":
			return form{kind: plain}, true, "FLOAT"
		case "W8A8_DYNAMIC":
			return form{kind: ascendInt8}, false, "W8A8_DYNAMIC"
		case "W4A8_DYNAMIC":
			return form{kind: ascendInt4}, false, "W4A8_DYNAMIC"
		case "W8A8":
			return form{kind: ascendStatic}, false, "W8A8"
		case "W8A8_MIX":
			return form{kind: ascendMix}, false, "W8A8_MIX"
		case "W8A8_MXFP8":
			return form{kind: mxfp8, group: 32}, false, "W8A8_MXFP8"
		case "W4A4_MXFP4", "W4A8_MXFP", "W4A16_MXFP4":
			return form{kind: ascendMX4, group: 32}, false, d.scheme[module+".weight"]
		}
		return form{kind: foreign}, false, d.scheme[module+".weight"]
	}
	return form{kind: plain}, true, ""
}
