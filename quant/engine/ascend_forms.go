package engine

import "github.com/glmconv/glmconv/quant/format"

// What vllm-ascend makes of formats other than its own
// (docs/facts/engine-vllm-ascend.md 1.2 and 1.3): platform.py:
// supported_quantization and configs/*.py (before 0.27 in quantization/).
var (
	nativeFP8    = span{from: "0.27"} // fp8 of any model; before, DeepSeek-V4's alone
	mxOfModelOpt = span{from: "0.27"}
	mxOfTensors  = span{from: "0.28"} // compressed-tensors
)

var ascendForms = []form{
	{layout: HFFP8, match: anything, during: span{until: "0.21"}, answer: Refuses, why: "vllm-ascend has a class for block FP8 from 0.27 on"},
	{layout: HFFP8, match: anything, during: span{until: "0.27"}, answer: Refuses,
		why: "fp8 is DeepSeek-V4's in vllm-ascend 0.21 to 0.26 (o_groups is read from config.json); block FP8 of other models loads from 0.27 on"},
	{layout: HFFP8, match: with(format.Float8Block, format.Float8Group), during: nativeFP8, on: atlas950,
		why: "block FP8 loads from 0.27 on; Atlas 950 (A5) computes it in MXFP8, rounded while it loads"},
	{layout: HFFP8, match: with(format.Float8Block, format.Float8Group), during: nativeFP8, on: olderNPU,
		why: "block FP8 loads from 0.27 on; chips other than Atlas 950 (A5) hold the weights in the model's dtype, twice as large"},
	{layout: HFFP8, match: anything, during: nativeFP8, answer: Refuses, why: "of fp8 it serves scales a block with dynamic activations alone"},

	{layout: ModelOpt, match: with(format.MXFP8, format.MXFP8Group), during: mxOfModelOpt, on: atlas950, why: "MXFP8 from 0.27 on, for Atlas 350 and 950 (A5)"},
	{layout: ModelOpt, match: with(format.MXFP8, format.MXFP8Group), during: mxOfModelOpt, on: olderNPU, answer: Refuses, why: mxChips},
	{layout: ModelOpt, match: anything, answer: Refuses, why: notOnNPU},
	{layout: Quark, match: anything, answer: Refuses, why: notOnNPU},
	{layout: GPTQ, match: anything, answer: Refuses, why: notOnNPU},
	{layout: AWQ, match: anything, answer: Refuses, why: notOnNPU},
	{layout: AutoRound, match: anything, answer: Refuses, why: notOnNPU},

	{layout: CompressedTensors, match: with(format.Int8, format.Int8Token)},
	{layout: CompressedTensors, match: with(format.Float8, format.Float8Token), during: span{until: "0.21"},
		answer: Differs, why: "vllm-ascend 0.18 and 0.20 cast FP8 values to INT8 without an error: garbage"},
	{layout: CompressedTensors, match: with(format.Float8, format.Float8Token), on: atlas950, why: "FP8 from 0.21 on, for Atlas 950 (A5)"},
	{layout: CompressedTensors, match: with(format.Float8, format.Float8Token), on: olderNPU,
		answer: Refuses, why: "FP8 (W8A8FP8_DYNAMIC) is for Atlas 950 (A5): other chips have no FP8 arithmetic"},
	{layout: CompressedTensors, match: with(format.Float8, staticScale), kind: Linear,
		answer: Differs, why: "static inputs are taken for INT8's, the type is not checked: garbage"},
	{layout: CompressedTensors, match: with(format.Float8, staticScale), answer: Refuses, why: "vllm-ascend has no class for experts with static inputs"},
	{layout: CompressedTensors, match: with(format.Float8Block, format.Float8Group),
		answer: Refuses, why: "vllm-ascend has no class for block FP8 in compressed-tensors"},

	{layout: CompressedTensors, match: with(format.MXFP8, format.MXFP8Group), during: mxOfTensors, on: atlas950, why: "MX from 0.28 on, for Atlas 350 and 950 (A5)"},
	{layout: CompressedTensors, match: with(format.MXFP4, format.MXFP4Group), during: mxOfTensors, on: atlas950, why: "MX from 0.28 on, for Atlas 350 and 950 (A5)"},
	{layout: CompressedTensors, match: mxWithInputs, during: mxOfTensors, on: olderNPU, answer: Refuses, why: mxChips},
	{layout: CompressedTensors, match: mxWithInputs, during: span{until: "0.28"},
		answer: Refuses, why: "vllm-ascend reads MX in compressed-tensors from 0.28 on; in the ascend format before"},
	{layout: CompressedTensors, match: integers(4, format.Float8Token, format.Words),
		answer: Refuses, why: "vllm-ascend takes pack-quantized for weight-only and fails on the shapes"},
	{layout: CompressedTensors, match: integers(4, format.Activation{}, format.Words), kind: Linear, answer: Refuses, why: packedExpertsOnly},
	{layout: CompressedTensors, match: onlyWeight(format.Int4(32)), kind: Experts},
	{layout: CompressedTensors, match: integers(4, format.Activation{}, format.Words), answer: Refuses, why: packedExpertsOnly},
	{layout: CompressedTensors, match: int4Groups, during: span{from: "0.27"},
		answer: Refuses, why: "vllm-ascend takes int4 with int8 inputs a channel alone from 0.27 on (--group-size channel)"},
	{layout: CompressedTensors, match: integers(4, format.Int8Token, format.Bytes), kind: Linear,
		answer: Refuses, why: "vllm-ascend has int4 with int8 inputs for routed experts alone (its class for linears wants second scales): keep other linears out of the group (--rest int8 or bf16)"},
	// methods/w4a8.py: get_weight_compressed_tensors registers int4 in bytes and
	// BF16 scales a channel or, until 0.26, a group (0.18.0, 0.26.0rc1 and 0.27's
	// source; tests/e2e has llm-compressor's W4A8 of a Qwen3 MoE).
	{layout: CompressedTensors, match: integers(4, format.Int8Token, format.Bytes), kind: Experts,
		why: "int4 experts of compressed-tensors: scales a channel in every release, in groups until 0.26; every other linear in int8 or full precision"},
	{layout: CompressedTensors, match: staticInt8, kind: Linear,
		answer: NotJudged, why: "its class of static int8 wants deq_scale and quant_bias, which compressed-tensors does not have"},
	{layout: CompressedTensors, match: int4Words, kind: Experts, answer: NotJudged, why: "what its int4 experts make of zero points is in no table"},
	{layout: CompressedTensors, match: anything, answer: Refuses,
		why: "vllm-ascend has classes for int8 a channel, FP8 a channel, MX with its inputs and int4 experts, in compressed-tensors for nothing else"},
}

// mxWithInputs matches MX with inputs in the same format.
func mxWithInputs(p Part) bool {
	return with(format.MXFP8, format.MXFP8Group)(p) || with(format.MXFP4, format.MXFP4Group)(p)
}

// int4Groups matches unpacked int4 in groups with int8 inputs.
func int4Groups(p Part) bool {
	return integers(4, format.Int8Token, format.Bytes)(p) && p.Weight.Strategy == format.Group
}

// int4Words matches packed int4 whose inputs stay as they are.
func int4Words(p Part) bool {
	return p.Weight.Type == format.Int && p.Weight.Bits == 4 && p.Weight.Packing == format.Words && !p.Acts.Quantized()
}

// staticInt8 matches int8 a channel with one stored scale for the inputs.
func staticInt8(p Part) bool {
	a := p.Acts
	return p.Weight.SameCodes(format.Int8) && a.Type == format.Int && a.Bits == 8 && a.When == format.Static && a.Strategy == format.Tensor
}

const (
	notOnNPU          = "the platform knows ascend and compressed-tensors, fp8 from 0.21 and ModelOpt's MXFP8 from 0.27 on, no other tool's formats"
	mxChips           = "MX runs on Atlas 350 and 950 (A5)"
	packedExpertsOnly = "vllm-ascend reads int4 weight-only experts alone, in groups that config.json cannot name"
)
