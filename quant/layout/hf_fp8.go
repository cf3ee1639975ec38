package layout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// hfFP8 is the block FP8 layout of transformers and DeepSeek
// (docs/facts/layouts.md 2.2): P.weight F8_E4M3 [O,I] and P.weight_scale_inv F32
// [⌈O/128⌉,⌈I/128⌉], which despite its name multiplies.
type hfFP8 struct{ common }

func (hfFP8) Format() Format    { return HFFP8 }
func (hfFP8) Reference() string { return "DeepSeek's FP8 kernels round" }
func (hfFP8) schemes() []Scheme { return []Scheme{FP8Block} }

func (hfFP8) choose(*glm.Config, *glm.Tensor, *Options) (choice, string) {
	return choice{format.Float8Block.Scaled(format.F32), format.Float8Group}, ""
}

func (hfFP8) misfit(w *Weight) string { return blockMisfit(w) }
func (hfFP8) label(*Weight) string    { return blockLabel }

// blockLabel is the label of weights in blocks of 128 rows and columns.
const blockLabel = "FP8 128x128"

// blockMisfit is the rule about blocks of 128×128 that a weight breaks, or "".
func blockMisfit(w *Weight) string {
	n, k := w.Dims()
	role := w.Tensor.Role
	merged := role != glm.AttnKVA && w.Tensor.Group != "" // the last shard of a merged weight may be ragged
	if merged && n%128 != 0 {
		return fmt.Sprintf("%d rows do not fill 128-row blocks when engines merge the group", n)
	}
	if (role.IsDense() || role.IsExpert() || role.IsShared()) && k%128 != 0 {
		return fmt.Sprintf("%d columns do not fill 128-column blocks", k)
	}
	return ""
}

func (hfFP8) Outputs(w Weight) []safetensors.Spec {
	if !w.Quantized() {
		return floatOutput(&w)
	}
	n, k := w.Dims()
	sr, sc := w.Quant.ScaleShape(n, k)
	p := w.Tensor.Module
	return []safetensors.Spec{
		spec(p, "weight", safetensors.F8E4M3, int64(n), int64(k)),
		spec(p, "weight_scale_inv", safetensors.F32, int64(sr), int64(sc)),
	}
}

func (hfFP8) Numeric(w Weight, a Arith) numeric.Spec {
	return numericOf(w.Quant, numeric.DeepSeekBlock, a)
}

func (hfFP8) AppendTile(_ Weight, _ int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	out[0] = appendCodes(out[0], m.Codes)
	out[1] = numeric.AppendF32(out[1], m.Scales)
	return out, nil
}

func (hfFP8) find(t *tensors, h Hints) (s Stored, ok bool, err error) {
	c, ok := t.get("weight")
	if !ok || c.DType != safetensors.F8E4M3 {
		return s, false, nil
	}
	if s.Scale, ok = t.get("weight_scale_inv"); !ok {
		return s, false, nil
	}
	s.Module, s.Format, s.Codes = t.module, HFFP8, c
	if err := s.matrixShape(); err != nil {
		return s, true, err
	}
	s.Input, _ = t.get("input_scale")
	s.Quant = float8Of(&s, h)
	return s, true, s.checkScale()
}

func (hfFP8) read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (m *numeric.Matrix, err error) {
	m = s.matrix(lo, hi)
	if m.Codes, err = b.bytes(r, s.Codes, lo, hi, s.Cols); err != nil {
		return nil, err
	}
	return m, s.readScales(r, m, lo)
}

func (hfFP8) Config(d Decisions) (map[string][]byte, error) {
	return withQuantization(d, struct {
		ActivationScheme string   `json:"activation_scheme"`
		Fmt              string   `json:"fmt"`
		NotConverted     []string `json:"modules_to_not_convert"`
		QuantMethod      string   `json:"quant_method"`
		BlockSize        [2]int   `json:"weight_block_size"`
	}{"dynamic", "e4m3", notConverted(d), "fp8", [2]int{128, 128}})
}

// notConverted returns the entries of an hf-fp8 modules_to_not_convert list:
// the full checkpoint name of every linear that stays, which vLLM and
// transformers match, and what SGLang needs besides: the runtime names of
// fused modules (it expands fused_qkv_a_proj for glm_moe_dsa alone), the parent
// of the experts, the draft layer under its own name, and the tower as a whole
// (docs/facts/engine-vllm.md 2.1, docs/facts/engine-sglang.md 2).
func notConverted(d Decisions) []string {
	var list []string
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			list = append(list, name)
		}
	}
	for i := range d.Weights {
		w := d.Weights[i]
		t := w.Tensor
		if t.Param != "weight" || w.Quantized() || len(t.Shape) != 2 || t.Role == glm.Unknown {
			continue
		}
		add(t.Module)
		if t.Group != "" {
			add(t.Group)
		}
		if t.Role == glm.AttnQA || t.Role == glm.AttnKVA {
			add(t.Group + "_with_mqa")
		}
	}
	whole := mtpStaysFloat(d)
	if whole {
		add("model.decoder")
	}
	for _, n := range mtpLayers(d) {
		prefix := d.Config.LayerPrefix(n)
		if whole {
			add(strings.TrimSuffix(prefix, "."))
			continue
		}
		for _, name := range slices.Clone(list) {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				add("model.decoder." + rest)
			}
		}
	}
	if d.Config.Vision != nil {
		add("model.visual")
	}
	return list
}
