package check

import (
	"fmt"
	"slices"

	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/safetensors"
)

// kind is how a weight lies on disk, as told by its tensors alone.
type kind uint8

const (
	absent       kind = iota
	plain             // BF16, F16, F32
	fp8Channel        // F8_E4M3 + weight_scale [O,1]
	fp8Block          // F8_E4M3 + weight_scale [ceil(O/128),ceil(I/128)]
	fp8BlockInv       // the same with weight_scale_inv
	int8Channel       // I8 + weight_scale [O,1]
	int4Bytes         // I8 holding int4 + weight_scale [O,I/g]
	int4Packed        // weight_packed I32 + weight_scale + weight_shape
	ascendInt8        // I8 + weight_scale, weight_offset [N,1] F32
	ascendInt4        // I8 [N/2,K] + scales + scale_bias
	ascendStatic      // I8 + input_scale, input_offset, deq_scale, quant_bias
	ascendMix         // both of them: W8A8_MIX
	int8Packed        // the same with codes of 8 bits
	nvfp4             // weight_packed U8 + weight_scale F8_E4M3 + weight_global_scale
	nvfp4Local        // the same + input_global_scale
	mxfp4             // weight_packed U8 + weight_scale U8
	mxfp8             // F8_E4M3 + weight_scale U8
	ascendMX4         // weight U8 [N,K/2] + weight_scale U8
	foreign           // another tool's: qweight, weight_scale_2 …
	naked             // codes without a scale that would say what they mean
)

var kindNames = [...]string{
	"absent", "full precision", "FP8 per channel", "FP8 per block", "FP8 per block (weight_scale_inv)", "INT8 per channel",
	"int4 in bytes", "packed int4", "W8A8_DYNAMIC", "W4A8_DYNAMIC", "static W8A8", "W8A8_MIX", "packed int8", "NVFP4", "NVFP4 with an input scale", "MXFP4", "MXFP8", "MXFP4", "another tool's format", "codes without a scale",
}

// form is a kind with its group size (int4: 0 = one scale a row).
type form struct {
	kind   kind
	group  int
	weight format.Weight // foreign: what package layout reads; zero where it does not
}

func (f form) String() string {
	s := kindNames[f.kind]
	if f.weight.Quantized() {
		return f.weight.String()
	}
	if f.kind == int4Bytes || f.kind == int4Packed || f.kind == int8Packed {
		if f.group == 0 {
			return s + " per channel"
		}
		return fmt.Sprintf("%s, group %d", s, f.group)
	}
	return s
}

func (f form) quantized() bool { return f.kind > plain }

// params are the tensors of one module by the last part of their names.
type params map[string]safetensors.Info

const blockSize = 128

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

func isFloat(d safetensors.DType) bool {
	return d == safetensors.BF16 || d == safetensors.F16 || d == safetensors.F32 || d == safetensors.F64
}

// foreignParams are names that only other tools write.
var foreignParams = []string{"qweight", "qzeros", "scales", "g_idx", "weight_g_idx", "weight_global_scale", "input_global_scale", "weight_scale_2", "absmax", "SCB"}

// detect tells the form of a weight with logical shape [o, i] from its
// tensors. int4 and int8 in bytes with one scale a row look alike: the caller
// says what the config claims (four).
func detect(p params, o, i int64, four bool) form {
	if f, ok := detectMicro(p, i); ok {
		return f
	}
	for _, n := range foreignParams {
		if _, ok := p[n]; ok {
			return form{kind: foreign}
		}
	}
	scale, hasScale := p["weight_scale"]
	groupOf := func() int {
		if hasScale && len(scale.Shape) == 2 && scale.Shape[1] > 1 && i%scale.Shape[1] == 0 {
			return int(i / scale.Shape[1])
		}
		return 0
	}
	if w, ok := p["weight_packed"]; ok {
		if w.DType == safetensors.I32 && len(w.Shape) == 2 && i >= 8 && w.Shape[1] == ceilDiv(i, 4) {
			return form{kind: int8Packed, group: groupOf()}
		}
		if w.DType == safetensors.I32 {
			return form{kind: int4Packed, group: groupOf()}
		}
		return form{kind: foreign}
	}
	w, ok := p["weight"]
	if !ok {
		return form{kind: absent}
	}
	_, hasInv := p["weight_scale_inv"]
	switch {
	case isFloat(w.DType):
		return form{kind: plain}
	case w.DType == safetensors.F8E4M3 && hasInv:
		return form{kind: fp8BlockInv}
	case w.DType == safetensors.F8E4M3 && hasScale:
		if scale.DType == safetensors.U8 || scale.DType == safetensors.F8E8M0 {
			return form{kind: foreign}
		}
		if slices.Equal(scale.Shape, []int64{ceilDiv(o, blockSize), ceilDiv(i, blockSize)}) && !slices.Equal(scale.Shape, []int64{o, 1}) {
			return form{kind: fp8Block}
		}
		return form{kind: fp8Channel}
	case w.DType == safetensors.I8:
		return detectInt8(p, o, groupOf(), four)
	case w.DType == safetensors.F8E4M3:
		return form{kind: naked}
	}
	if hasScale || hasInv {
		return form{kind: foreign}
	}
	return form{kind: plain} // of a type that no layout stores: tensor-dtype says so
}

// detectInt8 is detect for codes in bytes: int8, or int4 in a byte each or in
// pairs. group is that of its scales, 0 for one a row.
func detectInt8(p params, o int64, group int, four bool) form {
	w := p["weight"]
	_, hasScale := p["weight_scale"]
	_, hasOffset := p["weight_offset"]
	_, hasBias := p["scale_bias"]
	_, hasDeq := p["deq_scale"]
	switch {
	case hasDeq:
		return form{kind: ascendStatic}
	case hasBias, len(w.Shape) == 2 && o > 1 && w.Shape[0]*2 == o:
		return form{kind: ascendInt4}
	case hasOffset:
		return form{kind: ascendInt8}
	case hasScale && (group > 0 || four):
		return form{kind: int4Bytes, group: group}
	case hasScale:
		return form{kind: int8Channel}
	}
	return form{kind: naked}
}

// detectMicro tells the forms of compressed-tensors with scales of a byte.
func detectMicro(p params, i int64) (form, bool) {
	scale, ok := p["weight_scale"]
	if !ok {
		return form{}, false
	}
	_, global := p["weight_global_scale"]
	_, input := p["input_global_scale"]
	w, packed := p["weight_packed"]
	switch {
	case packed && w.DType == safetensors.U8 && scale.DType == safetensors.F8E4M3 && global && input:
		return form{kind: nvfp4Local, group: 16}, true
	case packed && w.DType == safetensors.U8 && scale.DType == safetensors.F8E4M3 && global:
		return form{kind: nvfp4, group: 16}, true
	case packed && w.DType == safetensors.U8 && scale.DType == safetensors.U8 && !global:
		return form{kind: mxfp4, group: 32}, true
	}
	w, ok = p["weight"]
	if ok && w.DType == safetensors.F8E4M3 && scale.DType == safetensors.U8 && len(scale.Shape) == 2 && scale.Shape[1] == ceilDiv(i, 32) {
		return form{kind: mxfp8, group: 32}, true
	}
	return form{}, false
}

// part is one tensor that a form demands.
type part struct {
	param  string
	dtypes []safetensors.DType
	shape  []int64
}

var (
	anyScale = []safetensors.DType{safetensors.BF16, safetensors.F32, safetensors.F16}
	only     = func(d safetensors.DType) []safetensors.DType { return []safetensors.DType{d} }
)

// parts returns the tensors that a weight [o, i] of the given form consists
// of (docs/facts/layouts.md 1.3, 2.2; docs/facts/ascend.md 0): the independent
// statement of what a layout is. Forms without a rule return nil.
func (f form) parts(o, i int64, down bool) []part {
	cols := int64(1)
	if f.group > 0 {
		cols = i / int64(f.group)
	}
	blocks := []int64{ceilDiv(o, blockSize), ceilDiv(i, blockSize)}
	f8, i8, f32, u8 := only(safetensors.F8E4M3), only(safetensors.I8), only(safetensors.F32), only(safetensors.U8)
	switch f.kind {
	case fp8Channel:
		return []part{{"weight", f8, []int64{o, i}}, {"weight_scale", anyScale, []int64{o, 1}}}
	case fp8Block:
		return []part{{"weight", f8, []int64{o, i}}, {"weight_scale", anyScale, blocks}}
	case fp8BlockInv:
		return []part{{"weight", f8, []int64{o, i}}, {"weight_scale_inv", anyScale, blocks}}
	case int8Channel:
		return []part{{"weight", i8, []int64{o, i}}, {"weight_scale", anyScale, []int64{o, 1}}}
	case int4Bytes:
		return []part{{"weight", i8, []int64{o, i}}, {"weight_scale", anyScale, []int64{o, cols}}}
	case int4Packed:
		return []part{
			{"weight_packed", only(safetensors.I32), []int64{o, ceilDiv(i, 8)}}, {"weight_scale", anyScale, []int64{o, cols}},
			{"weight_shape", []safetensors.DType{safetensors.I64, safetensors.I32}, []int64{2}},
		}
	case int8Packed:
		return []part{
			{"weight_packed", only(safetensors.I32), []int64{o, ceilDiv(i, 4)}}, {"weight_scale", anyScale, []int64{o, cols}},
			{"weight_shape", []safetensors.DType{safetensors.I64, safetensors.I32}, []int64{2}},
		}
	case nvfp4, nvfp4Local:
		list := []part{{"weight_packed", u8, []int64{o, i / 2}}, {"weight_scale", f8, []int64{o, cols}}, {"weight_global_scale", f32, []int64{1}}}
		if f.kind == nvfp4Local {
			list = append(list, part{"input_global_scale", f32, []int64{1}})
		}
		return list
	case mxfp4:
		return []part{{"weight_packed", u8, []int64{o, i / 2}}, {"weight_scale", u8, []int64{o, cols}}}
	case ascendMX4:
		return []part{{"weight", u8, []int64{o, i / 2}}, {"weight_scale", u8, []int64{o, cols}}}
	case mxfp8:
		return []part{{"weight", f8, []int64{o, i}}, {"weight_scale", u8, []int64{o, cols}}}
	case ascendInt8:
		return []part{{"weight", i8, []int64{o, i}}, {"weight_scale", f32, []int64{o, 1}}, {"weight_offset", f32, []int64{o, 1}}}
	case ascendInt4:
		wide := int64(1)
		if down {
			wide = 16
		}
		return []part{
			{"weight", i8, []int64{o / 2, i}}, {"weight_scale", f32, []int64{o, 1}},
			{"weight_offset", f32, []int64{o, 1}}, {"scale_bias", f32, []int64{o, wide}},
		}
	case ascendStatic:
		return []part{
			{"weight", i8, []int64{o, i}}, {"input_scale", f32, []int64{1}}, {"input_offset", f32, []int64{1}},
			{"deq_scale", []safetensors.DType{safetensors.F32, safetensors.I64}, []int64{o}}, {"quant_bias", only(safetensors.I32), []int64{o}},
		}
	case ascendMix:
		return append(form{kind: ascendStatic}.parts(o, i, down), part{"weight_scale", f32, []int64{o, 1}}, part{"weight_offset", f32, []int64{o, 1}})
	}
	return nil
}
