package engine

import (
	"fmt"
	"slices"

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
	layouts: append([]Layout{CompressedTensors, HFFP8}, published...),
	resolve: resolveSGLang,
	flags: func(c cell) []string {
		var f []string
		if c.Layout == ModelOpt && c.device.Vendor == "nvidia" && c.device.Capability < 100 && c.anyPart(fp4Inputs) {
			f = append(f, "--fp4-gemm-backend marlin")
		}
		if c.Layout == ModelOpt && onlyFloat4(c.Experts.Weight) && c.Experts.weightOnly() { // its other expert kernels round the inputs, whatever the file says
			f = append(f, "--moe-runner-backend marlin")
		}
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
		// Found with its own loader: the class is that of GPT-OSS, whose parameters
		// have other names.
		{layout: CompressedTensors, match: mx4, kind: Experts,
			answer: Differs, why: "Mxfp4MoEMethod has no parameter for weight_packed: MXFP4 experts stay unset, no error"},
		{layout: CompressedTensors, match: with(format.MXFP8, format.MXFP8Group), answer: Refuses, why: "no compressed-tensors scheme for MXFP8"},
		{layout: CompressedTensors, match: onlyWeight(format.MXFP8), answer: Refuses, why: "no compressed-tensors scheme for MXFP8"},

		// modelopt_quant.py; what the list of quantizations for ROCm lacks is
		// refused there (model_config.py:_verify_quantization).
		{layout: ModelOpt, match: anything, on: amd, answer: Refuses, why: "ModelOpt's quantizations are not supported in ROCm"},
		{layout: ModelOpt, match: with(format.NVFP4, format.NVFP4Local), on: nvidia},
		{layout: ModelOpt, match: onlyWeight(format.NVFP4), on: nvidia},
		{layout: ModelOpt, match: with(oneScale, staticScale), on: capable(89)},
		{layout: ModelOpt, match: with(oneScale, staticScale), on: below(89), answer: Refuses, why: "modelopt_fp8 is for compute capability 8.9 and newer"},
		{layout: ModelOpt, match: float8(format.Channel, format.Block),
			answer: Refuses, why: "of ModelOpt's FP8 it knows the one with a scale a tensor"},
		{layout: ModelOpt, match: with(format.MXFP8, format.MXFP8Group), on: capable(100)},
		{layout: ModelOpt, match: with(format.MXFP8, format.MXFP8Group), on: below(100),
			answer: Refuses, why: "MXFP8 is for compute capability 10.0 and newer"},
		{layout: ModelOpt, match: onlyWeight(format.MXFP4), answer: Refuses, why: "ModelOpt's quant_algo MXFP4 is not among those it supports"},

		// quark.py:_get_scheme_from_config; the kernels of MXFP4 are aiter's.
		{layout: Quark, match: with(format.MXFP4, format.MXFP4Group), on: func(d Device) bool { return d.ID == "mi355x" }},
		{layout: Quark, match: with(format.MXFP4, format.MXFP4Group), on: gpu, answer: Refuses, why: "MXFP4 of Quark runs on aiter, which is for MI355"},
		{layout: Quark, match: onlyWeight(format.MXFP4), answer: Refuses, why: "no quark compatible scheme for MXFP4 without activations"},
		{layout: Quark, match: float8(format.Tensor, format.Channel, format.Block), on: withFP8(native)},
		{layout: Quark, match: float8(format.Tensor, format.Channel, format.Block), on: below(89),
			answer: Refuses, why: "FP8 of Quark is for compute capability 8.9 and newer"},
		{layout: Quark, match: nvfp4Weight, answer: Refuses, why: "NVFP4 of Quark has no scheme: 'list' object has no attribute 'get'"},

		// gptq.py, awq.py and auto_round.py: Marlin; the other GPTQ kernels are gone.
		{layout: GPTQ, match: anything, on: amd, answer: Refuses, why: "gptq_marlin is not supported in ROCm"},
		{layout: GPTQ, match: codes(true, anyWidth, format.GPTQWords, format.GPTQv2Words),
			answer: Refuses, why: "GPTQ with zero points: unsupported quantization config, sym=False"},
		{layout: GPTQ, match: codes(false, fourEight, format.GPTQWords, format.GPTQv2Words), on: nvidia},
		{layout: GPTQ, match: codes(false, otherWidths, format.GPTQWords, format.GPTQv2Words),
			answer: Refuses, why: "GPTQ has kernels for 4 and 8 bits"},
		{layout: AWQ, match: codes(true, []int{4}, format.AWQWords), on: nvidia},
		{layout: AWQ, match: codes(false, []int{4}, format.AWQWords), answer: Refuses, why: "Marlin has no kernel for AWQ without zero points, and awq runs in F16 without experts"},
		{layout: AWQ, match: otherThanFour, answer: Refuses, why: "AWQ has kernels for 4 bits"},
		{layout: AutoRound, match: codes(false, fourEight, format.GPTQWords), on: nvidia},
		{layout: AutoRound, match: codes(true, anyWidth, format.GPTQWords), kind: Linear,
			answer: Refuses, why: "the GPTQ kernel for codes with zero points has been removed"},
		{layout: AutoRound, match: codes(false, otherWidths, format.GPTQWords), kind: Linear,
			answer: Refuses, why: "the GPTQ kernel for other widths than 4 and 8 has been removed"},
		{layout: AutoRound, match: codes(true, []int{4}, format.AWQWords), on: nvidia},
		{layout: AutoRound, match: notInteger, answer: Refuses, why: "auto-round data types other than int are not supported"},
		{layout: AutoRound, match: anyOf(format.GPTQv2Words), answer: Refuses, why: `packing_format "auto_round:gptqmodel" is not among those it knows`},
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
		"W4A8_MXFP":    {linear: always, experts: always, on: atlas950},
		"W4A4_MXFP4":   {linear: always, experts: always, on: atlas950},
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
		// Found with its own classes: Glm4MoeSparseMoeBlock reads the dtype of the
		// shared experts' gate_up_proj.weight, which packed weights lack, unless
		// they are fused with the routed ones.
		{applies: func(c cell) bool {
			return !c.Config.LatentAttention() && c.Config.SharedExperts > 0 && packedNames(c.Layout, c.Shared)
		}, check: func(c cell) string {
			switch {
			case !c.Shared.Weight.SameCodes(c.Experts.Weight):
				return "packed shared experts beside routed ones of another format: 'MergedColumnParallelLinear' object has no attribute 'weight'"
			case c.ep:
				return "packed shared experts are not fused with expert parallelism: 'MergedColumnParallelLinear' object has no attribute 'weight'"
			}
			return ""
		}},
		{check: expertBlocksFit},
		{applies: int4FP8, check: wideKernel},
		{applies: func(c cell) bool { return c.Layout != HFFP8 && c.Layout != AscendLayout && !int4FP8(c) }, check: groupsFit},
		{applies: func(c cell) bool { return c.Layout == CompressedTensors && c.Experts.int4() && c.Experts.weightOnly() }, check: func(c cell) string {
			if c.Config.HiddenSize%128 != 0 {
				return fmt.Sprintf("Marlin's expert kernel needs hidden size %% 128 = 0, it is %d", c.Config.HiddenSize)
			}
			return ""
		}},
		{applies: func(c cell) bool {
			return c.Layout == AscendLayout && c.Config.Experts > 0 && !c.Experts.Weight.Quantized()
		}, check: func(cell) string {
			return "SGLang's modelslim loader has no class for routed experts that are FLOAT"
		}},
		{applies: func(c cell) bool { return c.Layout == AscendLayout && c.Experts.int4() }, check: func(c cell) string {
			if !c.ep && c.tp > 1 {
				return "SGLang adds the whole scale_bias on every rank; use expert parallelism"
			}
			return ""
		}},
	},

	misfit: misfitSGLang,

	// model_loader and the models' load_weights: no tensor is missed, and few
	// are found too many.
	faults: []fault{
		{codes: []string{"shard-invalid", "shard-truncated", "shard-missing", "index-invalid", "config-missing", "quant-config-invalid",
			"lfs-pointer", "file-beside-folder", "file-elsewhere", "mtp-shape", "expert-count", "vocabulary",
			"tensor-shape", "companion-shape", "kv-b-quantized", "description-invalid", "description-scheme"}, does: Refuses},
		{codes: []string{"file-size", "hash-mismatch", "index-tensor-missing", "duplicate-tensor", "stale-index", "leftover-shard", "config-not-quantized",
			"foreign-names", "layer-count", "stale-quantization", "quant-config-stale", "scales-left"}, does: Differs},
		{codes: []string{"tensor-missing", "router-bias-missing", "mtp-incomplete", "mtp-file-unlisted"}, does: Differs},
		{codes: []string{"tensor-dtype", "companion-missing", "companion-dtype", "packed-name", "weight-not-quantized", "ignored-but-quantized",
			"weight-encoding", "group-mixed", "experts-mixed"}, does: Differs},
		{codes: []string{"router-bias-dtype", "router-quantized", "eh-proj-quantized", "embedding-quantized", "head-quantized", "norm-quantized",
			"indexer-wk-int8", "indexer-quantized"}, does: Differs},
		{codes: []string{"scale-nonfinite", "scale-zero", "scale-negative", "scale-unset", "scale-bias-wrong", "zero-point-wrong", "order-undeclared", "code-range", "weight-nonfinite",
			"weight-zero", "zero-region", "weight-constant", "weight-size", "rows-equal"}, does: Differs},
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
	case c.Layout == ModelOpt && onlyFloat4(c.DraftExperts.Weight):
		return nil, "SGLang builds the MTP layer in full precision for modelopt_fp4: quantized weights of it are lost (keep it in the source's precision)"
	case c.Layout == AscendLayout && quantized && c.Config.SparseAttention():
		return append([]string{"--quantization modelslim"}, f...), ""
	case c.Layout == AscendLayout && quantized:
		return nil, "SGLang finds no entries for a quantized draft of this family (keep the MTP layer in the source's precision)"
	case c.Layout == CompressedTensors && c.Experts.int8() && !quantized:
		return nil, "--quantization w8a8_int8 cannot build the BF16 experts of the MTP layer (quantize the MTP layer too)"
	}
	return f, ""
}

// misfitSGLang: a tensor without a parameter is dropped and a parameter without
// a tensor stays as it is. Shapes are compared, but by layers that are split by
// their inputs, which cut what is too wide and fill up what is too narrow (0.5.23
// layers/parameter.py, RowvLLMParameter). Shared experts are built among the
// routed ones (found with its own loader, interop/tests/sglang).
func misfitSGLang(x *Misfit) (string, Answer) {
	plain, row := !x.Stored.Quantized(), x.splitByInput() && !x.Module.Role.IsShared()
	switch {
	case plain && x.ownNames():
		return "it is dropped, the codes under their own names stay unset, no error", Differs
	case plain && x.halfWide() && row:
		return tookHalf, Differs
	case plain && x.halfWide():
		return "it is twice as wide as packed codes", Refuses
	case plain:
		return tookValues, Differs
	case x.Built.Weight.Quantized():
		return otherNames, Refuses
	case x.OwnNames:
		return "its codes have names of their own and are dropped, the weight stays unset, no error", Differs
	case x.Stored.Bits == 4 && x.Layout != CompressedTensors && !row:
		return "its codes are half as wide as the weight", Refuses
	case x.Stored.Bits == 4 && x.Layout != CompressedTensors:
		return "its codes are read as numbers, the other half of its columns is zero, no error", Differs
	}
	return "its codes are read as numbers, the scale is dropped, no error", Differs
}

// packedNames reports whether a linear's codes have another name than weight,
// in a class that the model does not know as packed (AWQ's it does).
func packedNames(l Layout, p Part) bool {
	switch l {
	case CompressedTensors:
		return p.Weight.Packing == format.Words || p.Weight.Packing == format.Nibbles
	case GPTQ, AutoRound:
		return p.Weight.Packing == format.GPTQWords || p.Weight.Packing == format.GPTQv2Words
	}
	return false
}

func fp4Inputs(p Part) bool   { return onlyFloat4(p.Weight) && p.Acts.Quantized() }
func nvfp4Weight(p Part) bool { return p.Weight.SameCodes(format.NVFP4) }
func notInteger(p Part) bool  { return p.Weight.Type == format.Float }

// anyPart reports whether a linear part of the model is of a kind.
func (c cell) anyPart(is func(Part) bool) bool {
	return slices.ContainsFunc(c.quantized(), func(k kept) bool { return k.kind == Linear && is(k.part) })
}
