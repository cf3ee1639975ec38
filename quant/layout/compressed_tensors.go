package layout

import (
	"encoding/binary"
	"fmt"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// compressedTensors is the layout of vllm-project/compressed-tensors
// (docs/facts/layouts.md 1.3). With P the module and [O, I] the weight:
//
//	float-quantized channel  P.weight F8_E4M3 [O,I]   P.weight_scale BF16 [O,1]
//	float-quantized block    P.weight F8_E4M3 [O,I]   P.weight_scale BF16 [⌈O/128⌉,⌈I/128⌉]
//	int-quantized 8 bits     P.weight I8 [O,I]        P.weight_scale BF16 [O,1]
//	int-quantized 4 bits     P.weight I8 [O,I] −8…7   P.weight_scale BF16 [O,I/g] or [O,1]
//	pack-quantized           P.weight_packed I32 [O,⌈I/8⌉]  P.weight_scale BF16 [O,I/g]  P.weight_shape I64 [2]
//
// What is read besides, compressed_read.go says.
//
//	nvfp4-pack-quantized     P.weight_packed U8 [O,I/2]  P.weight_scale F8_E4M3 [O,I/16]  P.weight_global_scale F32 [1]  (P.input_global_scale F32 [1])
//	mxfp4-pack-quantized     P.weight_packed U8 [O,I/2]  P.weight_scale U8 [O,I/32]
//	mxfp8-quantized          P.weight F8_E4M3 [O,I]   P.weight_scale U8 [O,I/32]
type compressedTensors struct{ common }

func (compressedTensors) Format() Format    { return CompressedTensors }
func (compressedTensors) Reference() string { return "llm-compressor rounds" }
func (compressedTensors) schemes() []Scheme {
	return []Scheme{FP8, FP8Block, W8A8, W4A8, W4A16, W4A8FP8, NVFP4, NVFP4A16, MXFP4, MXFP4A16, MXFP8, MXFP8A16, Int4Int8}
}

// MTPCopies: int4 experts with int8 inputs beside other linears are vllm-ascend's
// (docs/facts/engine-vllm-ascend.md 5).
func (compressedTensors) MTPCopies(s Scheme, rest RestMode) string {
	if s == W4A8 && (rest == RestInt8 || rest == RestFloat) {
		return "vllm-ascend"
	}
	return ""
}

func (compressedTensors) weightParams() []string { return []string{"weight", "weight_packed"} }

// ctInt8 is int8 with a scale for each channel and token.
var ctInt8 = choice{format.Int8.Scaled(format.BF16), format.Int8Token}

// ctScheme returns what the routed experts of a scheme become, and what all
// other linears do: the same but for w4a8-fp8 and int4-int8-mix, and for w4a8
// as it is asked for.
func ctScheme(s Scheme, group int, others RestMode) (main, rest choice) {
	blocks := choice{format.Float8Block.Scaled(format.BF16), format.Float8Group}
	int4 := format.Int4(group).Scaled(format.BF16)
	switch s {
	case FP8:
		main = choice{format.Float8.Scaled(format.BF16), format.Float8Token}
	case FP8Block:
		main = blocks
	case W8A8:
		main = ctInt8
	case W4A8:
		main = choice{int4, format.Int8Token}
		switch others {
		case RestInt8:
			return main, ctInt8
		case RestFloat:
			return main, choice{}
		}
	case W4A16:
		main = choice{quant: int4.Packed(format.Words)}
	case W4A8FP8:
		int4.Used = format.E4M3 // vLLM's kernel rounds group scales to FP8 below a scale of the row
		return choice{int4.Packed(format.Words), format.Float8Token}, blocks
	case Int4Int8:
		return choice{quant: int4.Packed(format.Words)}, choice{quant: format.Integer(8, group).Scaled(format.BF16).Packed(format.Words)}
	}
	return main, main
}

func (compressedTensors) choose(cfg *glm.Config, t *glm.Tensor, o *Options) (choice, string) {
	joined := t.Role == glm.AttnQA || t.Role == glm.AttnKVA
	switch {
	case joined && o.Rest == RestSame && micro[o.Scheme].quant.Strategy == format.TensorGroup:
		return choice{}, "SGLang joins q_a_proj and kv_a_proj_with_mqa while it loads, their global scales too, and refuses the result"
	case o.Scheme.Micro():
		return microChoice(t, o)
	case t.Role == glm.AttnKVB && o.Scheme != FP8Block:
		return choice{}, keptKVB
	case t.Role == glm.IndexerK:
		return choice{}, keptIndexerK
	case o.Scheme == W4A16 && t.Role.IsShared() && !cfg.LatentAttention():
		return choice{}, "shared expert: SGLang cannot run it in int4 beside expert parallelism"
	case (o.Scheme == W4A16 || o.Scheme == Int4Int8) && joined:
		return choice{}, "SGLang joins q_a_proj and kv_a_proj_with_mqa while it loads, their weight_shape too, and refuses the result"
	}
	main, rest := ctScheme(o.Scheme, o.GroupSize, o.Rest)
	switch {
	case t.Role.IsExpert():
		return main, ""
	case !rest.quant.Quantized():
		return rest, keptAsked
	}
	return rest, ""
}

func (compressedTensors) possible(cfg *glm.Config, o *Options) error {
	if o.Scheme != W4A8FP8 {
		return nil
	}
	if o.GroupSize != 128 {
		return &ImpossibleError{What: "w4a8-fp8", Rule: "its kernels have groups of 128 built in", Nearest: "groups of 128"}
	}
	for _, d := range []struct {
		name string
		n    int
	}{{"hidden_size", cfg.HiddenSize}, {"moe_intermediate_size", cfg.MoEIntermediateSize}} {
		if d.n%256 != 0 {
			return &ImpossibleError{
				What:    fmt.Sprintf("w4a8-fp8 cannot be served for %s", cfg.Family),
				Rule:    fmt.Sprintf("vLLM's kernel needs %s %% 256 = 0, it is %d", d.name, d.n),
				Nearest: "w8a8 (A100) and fp8 (H100 and newer) load at every TP",
			}
		}
	}
	return nil
}

func (compressedTensors) misfit(w *Weight) string {
	n, k := w.Dims()
	q := w.Quant
	switch {
	case isMicro(q):
		return microMisfit(w)
	case q.Strategy == format.Block:
		return blockMisfit(w)
	case q.Strategy == format.Group && k%q.Group != 0:
		return fmt.Sprintf("%d columns are not groups of %d", k, q.Group)
	case q.Packing == format.Words && k%8 != 0:
		return fmt.Sprintf("%d columns do not fill 32-bit words", k)
	case q.Packing == format.Words && !w.Tensor.Role.IsExpert() && (n%64 != 0 || k%128 != 0):
		return fmt.Sprintf("[%d, %d] does not fit SGLang's Marlin kernel (rows %% 64, columns %% 128)", n, k)
	}
	return ""
}

func (compressedTensors) label(w *Weight) string {
	q := w.Quant
	switch {
	case isMicro(q):
		return microLabel(w)
	case q.Strategy == format.Block:
		return blockLabel
	case q.Bits == 8 && q.Packing == format.Words:
		return fmt.Sprintf("W8A16 g%d", q.Group)
	case q.Type == format.Float:
		return "FP8"
	case q.Bits == 8:
		return "W8A8"
	case q.Packing != format.Words && q.Strategy == format.Channel:
		return "W4A8 channel"
	case q.Packing != format.Words:
		return fmt.Sprintf("W4A8 g%d", q.Group)
	case q.Used == format.E4M3:
		return fmt.Sprintf("W4A8-FP8 g%d", q.Group)
	}
	return fmt.Sprintf("W4A16 g%d", q.Group)
}

func (compressedTensors) Outputs(w Weight) []safetensors.Spec {
	if !w.Quantized() {
		return floatOutput(&w)
	}
	rows, cols := w.Dims()
	n, k := int64(rows), int64(cols)
	sr, sc := w.Quant.ScaleShape(rows, cols)
	p := w.Tensor.Module
	scale := spec(p, "weight_scale", safetensors.BF16, int64(sr), int64(sc))
	switch {
	case isMicro(w.Quant):
		return microOutputs(&w)
	case w.Quant.Packing == format.Words:
		per := int64(32 / w.Quant.Bits)
		return []safetensors.Spec{spec(p, "weight_packed", safetensors.I32, n, (k+per-1)/per), scale, spec(p, "weight_shape", safetensors.I64, 2)}
	case w.Quant.Type == format.Float:
		return []safetensors.Spec{spec(p, "weight", safetensors.F8E4M3, n, k), scale}
	}
	return []safetensors.Spec{spec(p, "weight", safetensors.I8, n, k), scale}
}

func (compressedTensors) Numeric(w Weight, a Arith) numeric.Spec {
	s := numericOf(w.Quant, numeric.CompressedTensors, a)
	// Marlin and GPTQ kernels take negative group scales (docs/facts/layouts.md
	// 1.5); for the W4A8-FP8 kernels nobody has confirmed it, and they round
	// the scales to FP8.
	s.Signed = w.Quant.Packing == format.Words && !s.FP8Scales
	s.Global = w.Global
	return s
}

func (l compressedTensors) AppendTile(w Weight, row0 int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	if len(out) != len(l.Outputs(w)) {
		return nil, fmt.Errorf("layout: %s: %d output buffers", w.Tensor.Name, len(out))
	}
	switch {
	case isMicro(w.Quant):
		return appendMicro(&w, row0, m, out)
	case w.Quant.Packing == format.Words:
		if m.Code == numeric.Int8 {
			out[0] = numeric.AppendInt8Words(out[0], m.Codes, m.Cols)
		} else {
			out[0] = numeric.AppendInt4Words(out[0], m.Codes, m.Cols)
		}
		if row0 == 0 {
			n, k := w.Dims()
			out[2] = binary.LittleEndian.AppendUint64(out[2], uint64(n))
			out[2] = binary.LittleEndian.AppendUint64(out[2], uint64(k))
		}
	case m.Code == numeric.Int4:
		out[0] = numeric.UnpackNibbles(out[0], m.Codes, m.Cols)
	default:
		out[0] = appendCodes(out[0], m.Codes)
	}
	out[1] = numeric.AppendBF16(out[1], m.Scales)
	return out, nil
}
