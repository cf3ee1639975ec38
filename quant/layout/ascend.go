package layout

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/format"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// ascend is the ModelSlim V1 layout that vllm-ascend reads (docs/facts/ascend.md
// 1, 2). With P the module and [N, K] the weight:
//
//	W8A8_DYNAMIC  P.weight I8 [N,K]    P.weight_scale F32 [N,1] (BF16 values)  P.weight_offset F32 [N,1] zeros
//	W4A8_DYNAMIC  P.weight I8 [N/2,K]  P.weight_scale F32 [N,1]  P.weight_offset F32 [N,1] zeros
//	              P.scale_bias F32 [N,1] for gate and up, [N,16] for down: 8·s·Σq
//	W8A8_MXFP8    P.weight F8_E4M3 [N,K]  P.weight_scale U8 [N,K/32]
//	W4A4_MXFP4    P.weight U8 [N,K/2], even columns in the low halves  P.weight_scale U8 [N,K/32]
//	FLOAT         source dtype; biases of quantized layers are widened to F32
//
// A description of FLOAT alone is what rotated models in full precision need: the
// draft of vllm-ascend has a place for rot.weight only where one says so
// (docs/facts/ascend.md 5.3).
type ascend struct{ common }

// downParts is the number of K-slices of a down projection's scale_bias.
const downParts = 16

func (ascend) Format() Format           { return Ascend }
func (ascend) Reference() string        { return "msmodelslim rounds" }
func (ascend) schemes() []Scheme        { return []Scheme{W8A8, W4A8, MXFP4, MXFP8} }
func (ascend) mtpByDefault(Scheme) bool { return false }

// MTPCopies: docs/facts/ascend.md 4.1.
func (ascend) MTPCopies(Scheme, RestMode) string { return "vllm-ascend" }

func (ascend) ConfigFiles() []string { return []string{DescriptionName} }
func (ascend) IndexName() string     { return safetensors.AscendIndexName }
func (ascend) ShardName(i, n int) string {
	return fmt.Sprintf("quant_model_weights-%05d-of-%05d.safetensors", i, n)
}

// What linears become. Runtimes round int8 scales to BF16 (docs/facts/ascend.md 2.2).
var (
	ascendInt8 = format.Weight{Type: format.Int, Bits: 8, Strategy: format.Channel, Scale: format.F32, Used: format.BF16}
	ascendInt4 = format.Int4(0).Packed(format.RowPairs).Scaled(format.F32)
)

func (ascend) choose(cfg *glm.Config, t *glm.Tensor, o *Options) (choice, string) {
	switch {
	case o.Scheme == BF16:
		return unquantized{}.choose(cfg, t, o)
	case o.Scheme.Micro():
		return microChoice(t, o)
	case t.Role == glm.AttnKVB:
		return choice{}, keptKVB
	case t.Role == glm.IndexerK:
		return choice{}, keptIndexerK
	case o.Scheme == W4A8 && t.Role.IsExpert():
		return choice{ascendInt4, format.Int8Token}, ""
	case o.Static != nil && takesStatic(cfg, t):
		if _, ok := o.Static(t.Module); ok {
			return choice{ascendStatic8, AscendStatic}, ""
		}
	}
	return choice{ascendInt8, format.Int8Token}, ""
}

// possible: no class reads FP8 of whole rows beside MX (docs/facts/ascend.md 2.7).
func (ascend) possible(_ *glm.Config, o *Options) error {
	if o.Scheme.Micro() && o.Rest == RestFP8 {
		return &ImpossibleError{What: "rest fp8 as " + string(Ascend), Rule: "the layout has no FP8 with a scale for each row beside MX",
			Nearest: "rest bf16 or same; or rest fp8 as " + string(CompressedTensors)}
	}
	return nil
}

// mxPair is how many columns two scales have, which the runtime joins.
const mxPair = 64

// misfit: the runtime views four packed bytes of the output dimension as an
// int32: gate and up are stacked first, down stands alone (docs/facts/ascend.md
// 2.5).
func (ascend) misfit(w *Weight) string {
	rows := 4
	if w.Tensor.Role == glm.ExpertDown {
		rows = 8
	}
	if _, k := w.Dims(); isMicro(w.Quant) && k%mxPair != 0 {
		return fmt.Sprintf("%d columns are no pairs of groups of 32, as which vllm-ascend takes their scales", k)
	}
	if n, k := w.Dims(); w.Quant.Packing == format.RowPairs && (n%rows != 0 || k%downParts != 0) {
		return fmt.Sprintf("[%d, %d] cannot be packed as int4 (rows %% %d, columns %% %d)", n, k, rows, downParts)
	}
	return ""
}

// fallback: int4 falls back to int8, which the layout has beside it.
func (ascend) fallback(c choice) choice {
	if c.quant == ascendInt4 {
		return choice{ascendInt8, c.act}
	}
	return choice{}
}

// settle stores the biases of quantized layers as F32, as the NPU's kernels
// take them (docs/facts/ascend.md 0).
func (ascend) settle(out []Decision) {
	quantized := map[string]bool{}
	for i := range out {
		if w := &out[i].Weight; w.Quantized() {
			quantized[w.Tensor.Module] = true
		}
	}
	if len(quantized) == 0 {
		unquantized{}.settle(out)
		return
	}
	for i := range out {
		w := &out[i].Weight
		if w.Tensor.Param == "bias" && quantized[w.Tensor.Module] && w.Source != safetensors.F32 {
			w.DType, out[i].Reason = safetensors.F32, "bias of a quantised layer"
		}
	}
}

func (ascend) label(w *Weight) string { return ascendScheme(w.Quant) }

// ascendScheme is the word of descriptions for a weight.
func ascendScheme(q format.Weight) string {
	switch {
	case !q.Quantized():
		return "FLOAT"
	case isMicro(q) && q.Bits == 4:
		return "W4A4_MXFP4"
	case isMicro(q):
		return "W8A8_MXFP8"
	case q.Packing == format.RowPairs:
		return "W4A8_DYNAMIC"
	case q == ascendStatic8:
		return "W8A8"
	}
	return "W8A8_DYNAMIC"
}

func biasParts(w Weight) int {
	if w.Tensor.Role == glm.ExpertDown {
		return downParts
	}
	return 1
}

// What is appended to a module for the tensors of a quantized weight, in the
// order of their data.
var (
	int8Parts = []string{".weight", ".weight_scale", ".weight_offset"}
	mxParts   = []string{".weight", ".weight_scale"}
	int4Parts = []string{".weight", ".weight_scale", ".weight_offset", ".scale_bias"}
	floatPart = []string{""}
)

// names returns the names of a weight's tensors: a stem and what follows it.
func (ascend) names(w *Weight) (stem string, parts []string) {
	switch {
	case !w.Quantized():
		return w.Tensor.Name, floatPart
	case isMicro(w.Quant):
		return w.Tensor.Module, mxParts
	case w.Quant.Packing == format.RowPairs:
		return w.Tensor.Module, int4Parts
	case isStatic(w):
		return w.Tensor.Module, staticParts
	}
	return w.Tensor.Module, int8Parts
}

func (l ascend) Outputs(w Weight) []safetensors.Spec {
	if !w.Quantized() {
		return floatOutput(&w)
	}
	if isStatic(&w) {
		return staticOutputs(&w)
	}
	if isMicro(w.Quant) {
		out := microOutputs(&w)
		out[0].Name = w.Tensor.Name
		return out
	}
	stem, parts := l.names(&w)
	rows, cols := w.Dims()
	n, k := int64(rows), int64(cols)
	out := make([]safetensors.Spec, len(parts))
	column := []int64{n, 1}
	for i, part := range parts {
		out[i] = safetensors.Spec{Name: stem + part, DType: safetensors.F32, Shape: column}
	}
	out[0].DType, out[0].Shape = safetensors.I8, []int64{n, k}
	if w.Quant.Packing == format.RowPairs {
		out[0].Shape[0] = n / 2
		if p := int64(biasParts(w)); p > 1 {
			out[3].Shape = []int64{n, p}
		}
	}
	return out
}

func (ascend) Numeric(w Weight, a Arith) numeric.Spec { return numericOf(w.Quant, numeric.Ascend, a) }

func (ascend) RowAlign(w Weight, a Arith) int {
	if w.Quant.Packing == format.RowPairs && a == numeric.Compat {
		return 0 // the reference's search stops when no row of the weight improves
	}
	return rowAlign(w.Quant)
}

func (ascend) AppendTile(w Weight, row0 int, m *numeric.Matrix, out [][]byte) ([][]byte, error) {
	if isStatic(&w) {
		return appendStatic(&w, row0, m, out), nil
	}
	if isMicro(w.Quant) {
		return appendMicro(&w, row0, m, out)
	}
	var err error
	if w.Quant.Packing == format.RowPairs {
		if out[0], err = numeric.AppendInt4RowPairs(out[0], m.Codes, m.Cols); err != nil {
			return nil, fmt.Errorf("%s: %w", w.Tensor.Name, err)
		}
		bias, err := numeric.ScaleBias(m, biasParts(w))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.Tensor.Name, err)
		}
		out[3] = numeric.AppendF32(out[3], bias)
	} else {
		out[0] = appendCodes(out[0], m.Codes)
	}
	out[1] = numeric.AppendF32(out[1], m.Scales)
	for range m.Rows {
		out[2] = binary.LittleEndian.AppendUint32(out[2], math.Float32bits(0))
	}
	return out, nil
}

func (ascend) foreign() []foreignParam {
	return []foreignParam{{"weight_scale_second", "two-level group scales of old ModelSlim"}}
}

func (ascend) find(t *tensors, _ Hints) (s Stored, ok bool, err error) {
	c, ok := t.get("weight")
	if !ok || c.DType != safetensors.I8 {
		return s, false, nil
	}
	offset, ok := t.get("weight_offset")
	if !ok {
		return t.findStaticWeight(c)
	}
	if s.Scale, ok = t.get("weight_scale"); !ok {
		return s, false, nil
	}
	s.Module, s.Format, s.Codes, s.Beside, s.Quant = t.module, Ascend, c, []safetensors.Info{offset}, ascendInt8
	if err := s.matrixShape(); err != nil {
		return s, true, err
	}
	if _, packed := t.get("scale_bias"); packed {
		s.Quant, s.Rows = ascendInt4, 2*s.Rows
	}
	if s.Static, _, err = t.findStatic(s.Rows); err != nil {
		return s, true, err
	}
	return s, true, s.checkScale()
}

func (ascend) read(b *Buffer, r TensorReader, s *Stored, lo, hi int) (m *numeric.Matrix, err error) {
	if s.Static != nil && !s.Static.Mix {
		return s.readStaticWeight(b, r, lo, hi)
	}
	m = s.matrix(lo, hi)
	if s.Quant.Packing == format.RowPairs {
		raw, err := b.bytes(r, s.Codes, lo/2, hi/2, s.Cols)
		if err != nil {
			return nil, err
		}
		if b.codes, err = numeric.Int4FromRowPairs(b.codes[:0], raw, s.Cols); err != nil {
			return nil, err
		}
		m.Codes = b.codes
	} else if m.Codes, err = b.bytes(r, s.Codes, lo, hi, s.Cols); err != nil {
		return nil, err
	}
	if err := s.readScales(r, m, lo); err != nil {
		return nil, err
	}
	return m, s.checkOffsets(r, lo, hi)
}

// checkOffsets refuses weights with an offset: their codes would mean
// something else. Runtimes drop the tensor after loading.
func (s *Stored) checkOffsets(r TensorReader, lo, hi int) error {
	offset := s.Beside[0]
	if got, want := offset.Elements(), int64(s.Rows); got != want {
		return fmt.Errorf("layout: %s has %d values, the weight %d rows: %w", offset.Name, got, want, ErrMalformed)
	}
	v, err := readFloats(r, offset, lo, hi-lo)
	if err != nil {
		return err
	}
	for i, x := range v {
		if x != 0 {
			return fmt.Errorf("layout: %s is %v at row %d, not zero: %w", offset.Name, x, lo+i, ErrForeign)
		}
	}
	return nil
}
