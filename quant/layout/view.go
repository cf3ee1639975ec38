package layout

import (
	"errors"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/safetensors"
)

// View is a checkpoint as if the weights that it stores in codes and scales
// were full precision: what glm.Describe can match with a family's table.
type View struct {
	// Tensors has one P.weight of shape [rows, columns] and dtype BF16 for each
	// quantized weight, in the file of its codes, and every tensor that is not
	// part of one. The order is that of the checkpoint.
	Tensors []safetensors.Info
	// Stored says how the quantized weights lie on disk, by the name of the
	// tensor in Tensors. Empty for a checkpoint in full precision.
	Stored map[string]*Stored
	// Unread are tensors beside quantized weights that decoding does not need:
	// scales of activations and of the key-value cache.
	Unread []safetensors.Info
}

// NewView finds the quantized weights among tensors by their names, dtypes and
// shapes. Errors are those of Lookup: they wrap ErrForeign or ErrMalformed, or
// are those of reading.
func NewView(r TensorReader, infos []safetensors.Info, h Hints) (*View, error) {
	modules := map[string][]safetensors.Info{}
	for i := range infos {
		if module, param := glm.ModuleOf(infos[i].Name); partOfCodes(param, infos[i].DType) {
			modules[module] = nil
		}
	}
	if len(modules) == 0 {
		return &View{Tensors: infos}, nil
	}
	for i := range infos {
		module, param := glm.ModuleOf(infos[i].Name)
		if list, ok := modules[module]; ok && !ownBias(param) {
			modules[module] = append(list, infos[i])
		}
	}
	v := &View{Tensors: make([]safetensors.Info, 0, len(infos)-len(modules)), Stored: make(map[string]*Stored, len(modules))}
	for i := range infos {
		module, param := glm.ModuleOf(infos[i].Name)
		parts, ok := modules[module]
		if !ok || ownBias(param) {
			v.Tensors = append(v.Tensors, infos[i])
			continue
		}
		if parts == nil {
			continue // done
		}
		modules[module] = nil
		if err := v.add(r, module, parts, h); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// ownBias reports whether a tensor is a bias of the model itself, a router's too.
func ownBias(param string) bool {
	return strings.HasSuffix(param, "bias") && !slices.Contains(codeParams, param)
}

// add looks one module up.
func (v *View) add(r TensorReader, module string, parts []safetensors.Info, h Hints) error {
	s, err := Lookup(ofModule{r, parts}, module, h)
	if errors.Is(err, safetensors.ErrNotFound) { // scales of something else
		v.Unread = append(v.Unread, parts...)
		return nil
	}
	if err != nil {
		return err
	}
	if !s.Quantized() {
		v.Tensors = append(v.Tensors, s.Codes)
		for i := range parts {
			if parts[i].Name != s.Codes.Name {
				v.Unread = append(v.Unread, parts[i])
			}
		}
		return nil
	}
	t := s.Codes
	t.Name, t.DType, t.Shape = module+".weight", safetensors.BF16, []int64{int64(s.Rows), int64(s.Cols)}
	t.Size = 2 * int64(s.Rows) * int64(s.Cols)
	read := s.Parts()
	v.Tensors, v.Stored[t.Name] = append(v.Tensors, t), &s
	for i := range parts {
		name := parts[i].Name
		used := strings.HasSuffix(name, ".weight_shape") || slices.ContainsFunc(read, func(b safetensors.Info) bool { return b.Name == name })
		if !used {
			v.Unread = append(v.Unread, parts[i])
		}
	}
	return nil
}

// partOfCodes reports whether only quantized weights have such a tensor.
func partOfCodes(param string, d safetensors.DType) bool {
	switch d {
	case safetensors.BF16, safetensors.F16, safetensors.F32, safetensors.F64:
		return strings.HasSuffix(param, "_scale") || strings.HasSuffix(param, "_scale_inv") || slices.Contains(codeParams, param)
	}
	return param == "weight" || strings.HasPrefix(param, "weight_") || strings.HasSuffix(param, "_scale") || slices.Contains(codeParams, param)
}

// BesideCodes reports whether a tensor, by the last part of its name, belongs to
// a quantized weight or its input, whatever its type.
func BesideCodes(param string) bool {
	return slices.Contains(codeParams, param) || strings.HasPrefix(param, "weight_") || strings.HasPrefix(param, "input_") ||
		strings.HasSuffix(param, "_scale") || strings.HasSuffix(param, "_scale_inv")
}

// codeParams are names of tensors that belong to quantized weights whatever
// their type.
var codeParams = []string{"qweight", "qzeros", "scales", "g_idx", "weight_scale_2", "weight_offset", "weight_zero_point", "weight_g_idx",
	"deq_scale", "quant_bias", "scale_bias", "input_offset", "pre_quant_scale", "absmax", "SCB"}

// ofModule is a reader of a few tensors of a checkpoint.
type ofModule struct {
	TensorReader
	parts []safetensors.Info
}

func (m ofModule) Info(name string) (safetensors.Info, bool) {
	for i := range m.parts {
		if m.parts[i].Name == name {
			return m.parts[i], true
		}
	}
	return safetensors.Info{}, false
}
