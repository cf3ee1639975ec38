package engine

import (
	"fmt"

	"github.com/glmconv/glmconv/quant/format"
)

// vllm is vLLM (docs/facts/engine-vllm.md): read, and run on the CPU, in
// 0.32.0; the files that matter were compared with 0.33.0, which changes
// nothing below.
var vllm = spec{
	name: VLLM, title: "vLLM",
	releases: []string{"0.32", "0.33"},
	vendors:  func(Layout) []string { return []string{"nvidia", "amd", "cpu"} },
	layouts:  append([]Layout{CompressedTensors, HFFP8}, published...),
	resolve:  resolveVLLM,
	flags: func(c cell) []string {
		f := []string{`--model-loader-extra-config '{"enable_weights_track": true}'`}
		if c.splitVision() {
			f = append(f, "--mm-encoder-tp-mode data")
		}
		return f
	},
	drafts: func(c cell) ([]string, string) {
		return []string{fmt.Sprintf(`--speculative-config '{"method": "mtp", "num_speculative_tokens": %d}'`, c.Config.DraftSteps())}, ""
	},

	// compressed_tensors.py:get_scheme_cls and get_moe_method, fp8.py,
	// capabilities of the schemes' classes.
	forms: []form{
		{layout: AscendLayout, match: anything, answer: Refuses, why: "plain vLLM does not read the ascend layout"},

		{layout: HFFP8, match: with(format.Float8Block, format.Float8Group), on: withFP8(native)},
		{layout: HFFP8, match: with(format.Float8Block, format.Float8Group), on: withFP8(weightOnly), why: fp8Widened},

		{layout: CompressedTensors, match: with(format.Float8, format.Float8Token), on: withFP8(native)},
		{layout: CompressedTensors, match: with(format.Float8, format.Float8Token), on: withFP8(weightOnly), why: fp8Widened},
		{layout: CompressedTensors, match: with(format.Float8Block, format.Float8Group), on: withFP8(native)},
		{layout: CompressedTensors, match: with(format.Float8Block, format.Float8Group), on: withFP8(weightOnly), why: fp8Widened},
		{layout: CompressedTensors, match: onlyWeight(format.Float8), kind: Experts,
			answer: Refuses, why: "FP8 experts need input_activations: without them they are taken for packed integers"},
		{layout: CompressedTensors, match: onlyWeight(format.Float8), on: withFP8(native, weightOnly)},

		// Every class of int8 experts of experts/cpu_moe.py (0.32.0) has the same list of
		// routings as that of int4 below.
		{layout: CompressedTensors, match: integers(8, format.Int8Token, format.Bytes), kind: Experts, on: cpu,
			answer: Refuses, why: "vLLM's kernels for int8 experts on CPUs route by softmax, GLM by sigmoid with a bias"},
		{layout: CompressedTensors, match: integers(8, format.Int8Token, format.Bytes), on: withInt8},
		{layout: CompressedTensors, match: integers(8, format.Activation{}, format.Words), on: nvidia},
		{layout: CompressedTensors, match: integers(4, format.Activation{}, format.Words), on: nvidia},
		{layout: CompressedTensors, match: integers(4, format.Activation{}, format.Bytes),
			answer: Refuses, why: "int4 without activations must be pack-quantized: an assertion fails while the config is read"},
		// fused_moe/oracle/w4a8_int8.py and experts/cpu_int4_moe.py (CPUExpertsInt4) of
		// 0.32.0: no other kernel than KleidiAI's on Arm, whose list of routings has
		// Default, Renormalize and RenormalizeNaive, and which takes the softmax.
		{layout: CompressedTensors, match: integers(4, format.Int8Token, format.Bytes), kind: Experts, on: gpu,
			answer: Refuses, kernel: true, why: "int4 experts with int8 activations are for Arm CPUs (W4A8 Int8 MoE is only supported on CPU platforms); w4a16 loads"},
		{layout: CompressedTensors, match: integers(4, format.Int8Token, format.Bytes), kind: Experts, on: cpu,
			answer: Refuses, kernel: true, why: "the kernel of int4 experts with int8 activations is for Arm CPUs and routes by softmax, GLM by sigmoid with a bias"},
		{layout: CompressedTensors, match: integers(4, format.Int8Token, format.Bytes), on: cpu},
		{layout: CompressedTensors, match: integers(4, format.Int8Token, format.Bytes), on: nvidia,
			why: "CPU and Arm kernels only; on GPUs activations stay in BF16"},
		{layout: CompressedTensors, match: integers(4, format.Float8Token, format.Words), on: func(d Device) bool { return d.Capability == 90 }},
		{layout: CompressedTensors, match: integers(4, format.Float8Token, format.Words), on: gpu,
			answer: Refuses, why: "int4 with FP8 activations is for compute capability 9.0 (H100, H200)"},

		{layout: CompressedTensors, match: onlyWeight(format.NVFP4), on: nvidia},
		{layout: CompressedTensors, match: with(format.NVFP4, format.NVFP4Local), on: capable(100)},
		{layout: CompressedTensors, match: with(format.NVFP4, format.NVFP4Local), on: nvidia, why: "before Blackwell FP4 saves memory and no time"},
		{layout: CompressedTensors, match: onlyWeight(format.MXFP4), on: capable(80)},
		{layout: CompressedTensors, match: with(format.MXFP4, format.MXFP4Group), on: capable(80)},
		{layout: CompressedTensors, match: with(format.MXFP8, format.MXFP8Group), on: capable(80)},
		{layout: CompressedTensors, match: onlyWeight(format.MXFP8), on: capable(80)},

		// modelopt.py: QUANT_ALGOS, resolve and the classes for experts.
		{layout: ModelOpt, match: with(format.NVFP4, format.NVFP4Local), on: capable(100)},
		{layout: ModelOpt, match: with(format.NVFP4, format.NVFP4Local), on: nvidia, why: "before Blackwell FP4 saves memory and no time"},
		{layout: ModelOpt, match: onlyWeight(format.NVFP4), on: nvidia},
		{layout: ModelOpt, match: with(oneScale, staticScale), on: withFP8(native)},
		{layout: ModelOpt, match: with(oneScale, staticScale), on: withFP8(weightOnly), why: fp8Widened},
		{layout: ModelOpt, match: float8(format.Channel, format.Block), kind: Experts,
			answer: Refuses, why: "ModelOpt's class for FP8 experts has one scale a tensor"},
		{layout: ModelOpt, match: float8(format.Channel, format.Block), on: withFP8(native)},
		{layout: ModelOpt, match: with(format.MXFP8, format.MXFP8Group), on: capable(80)},
		{layout: ModelOpt, match: onlyWeight(format.MXFP4), answer: Refuses, why: "ModelOpt's quant_algo MXFP4 is not among those it supports"},

		// quark.py: _get_scheme_cls_from_config; MXFP4 without native kernels is
		// emulated.
		{layout: Quark, match: mx4, on: func(d Device) bool { return d.ID == "mi355x" }},
		{layout: Quark, match: mx4, on: gpu, why: "MXFP4 of Quark is emulated: it saves memory and no time"},
		// QuarkNVFP4 and QuarkNvfp4MoEMethod (quark_nvfp4.py, quark_moe.py): the kernels
		// are chosen as for other NVFP4, and it warns of all but the emulated one.
		{layout: Quark, match: with(format.NVFP4, format.NVFP4Local), on: capable(100), why: quarkUntried},
		{layout: Quark, match: with(format.NVFP4, format.NVFP4Local), on: nvidia, why: "before Blackwell FP4 saves memory and no time; " + quarkUntried},
		{layout: Quark, match: with(format.NVFP4, format.NVFP4Local), on: amd, why: "NVFP4 of Quark is emulated: it saves memory and no time"},
		{layout: Quark, match: nvfp4Weight, answer: Refuses, why: "NVFP4 of Quark needs inputs in the same format (two entries are only supported for NVFP4)"},
		{layout: Quark, match: float8(format.Tensor, format.Channel, format.Block), on: withFP8(native)},
		{layout: Quark, match: float8(format.Tensor, format.Channel, format.Block), on: below(89),
			answer: Refuses, why: "FP8 of Quark is for compute capability 8.9 and newer"},
		{layout: Quark, match: with(format.Int8, format.Int8Token), on: withInt8},

		// auto_gptq.py and auto_awq.py: Marlin, else moe_wna16 for experts.
		{layout: GPTQ, match: codes(true, anyWidth, format.GPTQWords, format.GPTQv2Words),
			answer: Refuses, why: "GPTQ with zero points: unsupported quantization config, sym=False"},
		{layout: GPTQ, match: codes(false, fourEight, format.GPTQWords, format.GPTQv2Words), on: nvidia},
		{layout: GPTQ, match: codes(false, otherWidths, format.GPTQWords, format.GPTQv2Words),
			answer: Refuses, why: "GPTQ has kernels for 4 and 8 bits"},
		{layout: AWQ, match: codes(true, []int{4}, format.AWQWords), on: nvidia},
		{layout: AWQ, match: otherThanFour, answer: Refuses, why: "AWQ has kernels for 4 bits"},

		// inc/schemes: integers as GPTQ and AWQ, other widths by Humming.
		{layout: AutoRound, match: codes(true, anyWidth, format.GPTQWords), kind: Linear,
			answer: Refuses, why: "GPTQ codes with zero points: unsupported quantization config, sym=False"},
		{layout: AutoRound, match: codes(false, anyWidth, format.GPTQWords), on: nvidia},
		{layout: AutoRound, match: codes(true, []int{4}, format.AWQWords), on: nvidia},
		{layout: AutoRound, match: with(format.MXFP4, format.MXFP4Group), on: capable(80)},
		{layout: AutoRound, match: with(format.MXFP8, format.MXFP8Group), on: capable(80)},
		{layout: AutoRound, match: anyOf(format.GPTQv2Words), answer: Refuses, why: `packing_format "auto_round:gptqmodel" is not among those it knows`},
	},

	rules: []rule{
		{applies: func(c cell) bool { return c.Layout == AscendLayout }, check: func(cell) string { // in full precision too: rotated
			return "plain vLLM does not read the ascend layout"
		}},
		{applies: func(c cell) bool { return c.Layout == HFFP8 && c.Experts.blockFP8() }, check: func(c cell) string {
			if n := gcd(128, c.expertWidth(), c.Config.HiddenSize); n < 32 {
				return fmt.Sprintf("expert width per rank %d leaves blocks of %d, vLLM refines them to 32 at the least", c.expertWidth(), n)
			}
			return blocksFit(c)
		}},
		{applies: func(c cell) bool { return c.Layout == CompressedTensors }, check: expertBlocksFit},
		{applies: int4FP8, check: wideKernel},
		{applies: func(c cell) bool { return !int4FP8(c) }, check: groupsFit},
		{applies: func(c cell) bool { return c.Experts.int4() && c.Experts.weightOnly() }, check: func(c cell) string {
			if c.Config.HiddenSize%128 != 0 {
				return fmt.Sprintf("Marlin's expert kernel needs hidden size %% 128 = 0, it is %d", c.Config.HiddenSize)
			}
			return ""
		}},
		{applies: func(c cell) bool { return cpu(c.device) && c.ep }, answer: NotJudged, check: func(cell) string {
			return "no table says whether vLLM splits experts over CPUs"
		}},
	},

	misfit: misfitVLLM,

	// default_loader.py checks that nothing is missing only where the config has
	// no quantization; glm4_moe.py, glm4_moe_mtp.py, deepseek_v2.py:load_weights.
	faults: []fault{
		{codes: []string{"shard-invalid", "shard-truncated", "shard-missing", "index-invalid", "config-missing", "config-not-quantized",
			"quant-config-invalid", "consolidated-file", "foreign-names", "lfs-pointer", "file-beside-folder", "file-elsewhere", "mtp-shape", "layer-count",
			"expert-count", "vocabulary"}, does: Refuses},
		{codes: []string{"tensor-shape", "companion-shape", "companion-unexpected", "packed-name", "ignored-but-quantized", "weight-encoding",
			"router-quantized", "embedding-quantized", "head-quantized", "norm-quantized", "indexer-quantized"}, does: Refuses},
		{codes: []string{"file-size", "hash-mismatch", "index-tensor-missing", "duplicate-tensor", "stale-index", "leftover-shard", "stale-quantization",
			"quant-config-stale", "scales-left"}, does: Differs},
		{codes: []string{"tensor-missing", "router-bias-missing", "mtp-incomplete", "mtp-file-unlisted"}, does: Differs, whole: Refuses},
		{codes: []string{"tensor-dtype", "companion-missing", "companion-dtype", "weight-not-quantized", "group-mixed", "experts-mixed"}, does: Differs},
		{codes: []string{"router-bias-dtype", "eh-proj-quantized", "indexer-wk-int8"}, does: Differs},
		{codes: []string{"scale-nonfinite", "scale-zero", "scale-negative", "scale-unset", "scale-bias-wrong", "zero-point-wrong", "order-undeclared", "code-range", "weight-nonfinite",
			"weight-zero", "zero-region", "weight-constant", "weight-size", "rows-equal"}, does: Differs},
	},
}

const quarkUntried = "of NVFP4 kernels vLLM itself has tried the emulated one alone with Quark's files (its warning)"

const fp8Widened = "Ampere reads FP8 weight-only: it saves memory and no time"

// misfitVLLM: a tensor without a parameter is a KeyError, and shapes are
// compared, but by layers that are split by their inputs (0.32 parameter.py,
// load_row_parallel_weight). Where these miss the scales too, ModelOpt's class
// for NVFP4 stops after loading (modelopt.py, KNvfp4Static); Quark's does not.
func misfitVLLM(x *Misfit) (string, Answer) {
	switch plain := !x.Stored.Quantized(); {
	case plain && x.halfWide() && x.splitByInput() && x.Layout == Quark:
		return tookHalf, Differs
	case plain && (x.ownNames() || x.halfWide()):
		return packedGone, Refuses
	case plain:
		return tookValues, Differs
	case !x.Built.Weight.Quantized() && x.Stored.Bits == 4:
		return otherShape, Refuses
	case !x.Built.Weight.Quantized():
		return noScale, Refuses
	}
	return otherNames, Refuses
}

func anything(Part) bool { return true }

// mx4 matches MXFP4 with MXFP4 inputs or none.
func mx4(p Part) bool {
	return p.Weight.SameCodes(format.MXFP4) && (!p.Acts.Quantized() || p.Acts == format.MXFP4Group)
}

func anyOf(packing format.Packing) func(Part) bool {
	return func(p Part) bool { return p.Weight.Packing == packing }
}

func otherThanFour(p Part) bool { return p.Weight.Packing == format.AWQWords && p.Weight.Bits != 4 }
