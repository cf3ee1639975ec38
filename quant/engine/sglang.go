package engine

import (
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
)

// sglang is SGLang (docs/facts/engine-sglang.md): its functions run on the
// CPU with GPUs simulated, and its model classes and loader over whole
// directories (interop/tests/sglang).
var sglang = spec{
	name: SGLang, title: "SGLang",
	releases: []string{"0.5.23"},
	vendors: func(l Layout) []string {
		if l == AscendLayout {
			return []string{"huawei"}
		}
		return []string{"nvidia", "amd", "cpu"}
	},
	layouts: []Layout{CompressedTensors, HFFP8},
	resolve: resolveSGLang,
	flags: func(c cell) []string {
		var f []string
		if c.Layout == CompressedTensors && c.Experts.int8() {
			f = append(f, "--quantization w8a8_int8")
		}
		if c.Layout != "" && c.Config.SharedExperts > 0 && !c.Shared.Weight.SameCodes(c.Experts.Weight) {
			f = append(f, "--disable-shared-experts-fusion")
		}
		if c.splitVision() {
			f = append(f, "--mm-enable-dp-encoder")
		}
		return f
	},
	drafts: sglangDrafts,

	// compressed_tensors.py:_get_scheme_from_parts and get_moe_scheme; w8a8_int8
	// serves INT8 files on GPUs. FP8 below capability 8.9: linears run
	// weight-only, expert kernels stop.
	forms: []form{
		{layout: HFFP8, match: with(format.Float8Block, format.Float8Group), on: withFP8(native)},
		{layout: HFFP8, match: with(format.Float8Block, format.Float8Group), on: below(89), answer: Refuses, why: sglangNoFP8},
		{layout: CompressedTensors, match: with(format.Float8, format.Float8Token), on: withFP8(native)},
		{layout: CompressedTensors, match: with(format.Float8, format.Float8Token), on: below(89), answer: Refuses, why: sglangNoFP8},
		{layout: CompressedTensors, match: with(format.Float8Block, format.Float8Group), on: withFP8(native)},
		{layout: CompressedTensors, match: with(format.Float8Block, format.Float8Group), on: below(89), answer: Refuses, why: sglangNoFP8},

		{layout: CompressedTensors, match: integers(8, format.Int8Token, format.Bytes), on: withInt8},
		{layout: CompressedTensors, match: integers(8, format.Activation{}, format.Words), on: nvidia},
		{layout: CompressedTensors, match: integers(4, format.Activation{}, format.Words), on: nvidia},
		{layout: CompressedTensors, match: integers(4, format.Int8Token, format.Bytes), on: either(gpu, cpu),
			answer: Refuses, why: "no CUDA class for int4 weights with int8 activations"},
		{layout: CompressedTensors, match: integers(4, format.Float8Token, format.Words), kind: Experts, on: func(d Device) bool { return d.Capability == 90 }},
		{layout: CompressedTensors, match: integers(4, format.Float8Token, format.Words), on: either(gpu, cpu),
			answer: Refuses, why: "int4 with FP8 activations is for experts on compute capability 9.0"},

		{layout: CompressedTensors, match: onlyWeight(format.NVFP4), on: capable(80)},
		{layout: CompressedTensors, match: with(format.NVFP4, format.NVFP4Local), on: capable(100)},
		{layout: CompressedTensors, match: onlyWeight(format.MXFP4), kind: Linear, on: gpu, answer: Refuses, why: "no compressed-tensors scheme for MXFP4 linears"},
		{layout: CompressedTensors, match: with(format.MXFP4, format.MXFP4Group), kind: Linear, on: gpu,
			answer: Refuses, why: "no compressed-tensors scheme for MXFP4 linears"},
		{layout: CompressedTensors, match: with(format.MXFP8, format.MXFP8Group), on: gpu, answer: Refuses, why: "no compressed-tensors scheme for MXFP8"},
	},

	// modelslim, on NPUs: linears, experts. Linears without an entry or with
	// another one are built in BF16, experts fail.
	schemes: map[string]scheme{
		"FLOAT":        {linear: always},
		"W8A8":         {linear: always},
		"W8A8_DYNAMIC": {linear: always, experts: always},
		"W4A8_DYNAMIC": {experts: always},
		"W4A4_DYNAMIC": {linear: always, experts: always},
		"W8A8_MXFP8":   {linear: always, experts: always, on: atlas950},
		"W4A8_MXFP":    {linear: always, on: atlas950},
		"W4A4_MXFP4":   {linear: always, on: atlas950},
	},

	rules: []rule{
		// Found with its own loader: merged linears take the block size of their
		// scales from the target Linear, and its int4 expert class takes its own
		// group from the same one (CompressedTensorsConfig.weight_block_size).
		{applies: func(c cell) bool {
			return int4FP8(c) && (c.Shared.blockFP8() || c.Dense.blockFP8() || c.Output.blockFP8())
		}, check: func(c cell) string {
			return "SGLang 0.5.23 fails while it loads block FP8 beside int4 experts ('NoneType' object is not subscriptable)"
		}},
		{check: expertBlocksFit},
		{applies: int4FP8, check: wideKernel},
		{applies: func(c cell) bool { return c.Layout == CompressedTensors && !int4FP8(c) }, check: groupsFit},
		{applies: func(c cell) bool { return c.Layout == CompressedTensors && c.Experts.int4() && c.Experts.weightOnly() }, check: func(c cell) string {
			if c.Config.HiddenSize%128 != 0 {
				return fmt.Sprintf("Marlin's expert kernel needs hidden size %% 128 = 0, it is %d", c.Config.HiddenSize)
			}
			return ""
		}},
		{applies: func(c cell) bool { return c.Layout == AscendLayout && c.Experts.int4() }, check: func(c cell) string {
			if !c.ep && c.tp > 1 {
				return "SGLang adds the whole scale_bias on every rank; use expert parallelism"
			}
			return ""
		}},
	},

	// model_loader and the models' load_weights: no tensor is missed, and few
	// are found too many.
	faults: []fault{
		{codes: []string{"shard-invalid", "shard-truncated", "shard-missing", "index-invalid", "config-missing", "quant-config-invalid",
			"lfs-pointer", "file-beside-folder", "mtp-shape", "expert-count", "vocabulary",
			"tensor-shape", "companion-shape", "kv-b-quantized", "description-invalid", "description-scheme"}, does: Refuses},
		{codes: []string{"file-size", "hash-mismatch", "index-tensor-missing", "duplicate-tensor", "stale-index", "leftover-shard", "config-not-quantized",
			"foreign-names", "layer-count", "stale-quantization", "quant-config-stale"}, does: Differs},
		{codes: []string{"tensor-missing", "router-bias-missing", "mtp-incomplete", "mtp-file-unlisted"}, does: Differs},
		{codes: []string{"tensor-dtype", "companion-missing", "companion-dtype", "packed-name", "weight-not-quantized", "ignored-but-quantized",
			"weight-encoding", "group-mixed", "experts-mixed"}, does: Differs},
		{codes: []string{"router-bias-dtype", "router-quantized", "eh-proj-quantized", "embedding-quantized", "head-quantized", "norm-quantized",
			"indexer-wk-int8", "indexer-quantized"}, does: Differs},
		{codes: []string{"scale-nonfinite", "scale-zero", "scale-negative", "scale-unset", "scale-bias-wrong", "code-range", "weight-nonfinite",
			"weight-zero", "zero-region"}, does: Differs},
		{codes: []string{"description-name", "description-entry-missing", "description-mismatch", "description-prefix"}, does: Differs},
		{codes: []string{"rot-missing", "rot-wrong", "rotation-mixed", "static-deq-scale", "static-shared-input", "static-quant-bias", "static-offset"},
			does: Differs},
	},
}

const sglangNoFP8 = "below compute capability 8.9 linears run weight-only and the expert kernels stop (fp8e4nv is not supported); w8a8 runs there"

// sglangDrafts: on NPUs a draft is built in full precision when the server is
// started without --quantization. With it the draft's entries are looked up
// under model.layers.N for glm_moe_dsa, and under model.decoder, where there
// are none, for the others. w8a8_int8 cannot build experts in full precision.
func sglangDrafts(c cell) ([]string, string) {
	steps := c.Config.DraftSteps()
	f := []string{fmt.Sprintf("--speculative-algorithm EAGLE --speculative-num-steps %d --speculative-eagle-topk 1 --speculative-num-draft-tokens %d",
		steps, steps+1)}
	quantized := c.DraftExperts.Weight.Quantized()
	switch {
	case c.Layout == AscendLayout && quantized && c.Config.SparseAttention():
		return append([]string{"--quantization modelslim"}, f...), ""
	case c.Layout == AscendLayout && quantized:
		return nil, "SGLang finds no entries for a quantized draft of this family (keep the MTP layer in the source's precision)"
	case c.Layout == CompressedTensors && c.Experts.int8() && !quantized:
		return nil, "--quantization w8a8_int8 cannot build the BF16 experts of the MTP layer (quantize the MTP layer too)"
	}
	return f, ""
}
