// Package layout is the one place for facts about how quantized weights lie on
// disk: which scheme exists in which format, what every weight becomes, under
// which names, dtypes and shapes, how codes are packed, and what the
// configuration files say.
//
//	ds, err := layout.Decide(cfg, tensors, layout.Options{Scheme: layout.W8A8, Format: layout.Ascend})
//	l, err := layout.For(layout.Ascend)
//	l.Outputs(ds[0].Weight)                           // the tensors that a weight becomes
//	s, err := layout.Lookup(ckpt, module, layout.Hints{}) // how a module's weight is stored
//	m, err := layout.Read(ckpt, s)                    // its codes and scales
//
// What a weight and its input are quantized to is said in records of package
// quant/format. A format is one file (compressed_tensors.go with its
// configuration in compressed_config.go, hf_fp8.go, ascend.go with its
// description in ascend_description.go) and a line in the registry; callers ask
// a [Layout] and name no format.
//
// # Decisions
//
// [Decide] says what each tensor of a model becomes. A role first takes the
// encoding of the scheme:
//
//	scheme     format              attention      dense, shared MLP   routed experts
//	fp8        compressed-tensors  FP8 channel    FP8 channel         FP8 channel
//	fp8-block  both                FP8 128x128    FP8 128x128         FP8 128x128
//	w8a8       both                INT8 channel   INT8 channel        INT8 channel
//	w4a8       compressed-tensors  INT4 group     INT4 group          INT4 group (b)
//	w4a8       ascend              INT8 channel   INT8 channel        INT4 channel
//	w4a16      compressed-tensors  INT4 group     INT4 group (a)      INT4 group
//	w4a8-fp8   compressed-tensors  FP8 128x128    FP8 128x128         INT4 g128
//	nvfp4(a16) ct, modelopt        Options.Rest   Options.Rest        FP4 g16
//	mxfp4(a16) compressed-tensors  Options.Rest   Options.Rest        FP4 g32
//	mxfp8(a16) compressed-tensors  Options.Rest   Options.Rest        FP8 g32
//	mix        compressed-tensors  INT8 group     INT8 group          INT4 group
//	bf16       plain               BF16           BF16                BF16
//
// (a) shared experts of the families without MLA stay BF16: SGLang cannot run
// them in int4 beside expert parallelism, and with the flag that plan prints
// (--disable-shared-experts-fusion) the mixed file loads everywhere.
//
// (b) or one scale a channel (PerChannel), and with Options.Rest int8 or the
// source's precision beside it, which vllm-ascend loads.
//
// Router, router bias, norms, embeddings, heads, eh_proj, the indexer's
// weights_proj and k_norm and the whole vision tower always keep the source's
// bytes. kv_b_proj is quantized in block FP8 only, indexer.wk in hf-fp8 only:
// everywhere else an engine would requantise it, assert, or read codes as
// BF16. Then dimensions count: a weight that a layout or a kernel cannot take
// keeps the source's precision, with everything it is fused with, and the
// decision says so. Nothing is padded.
//
// # Writing and reading
//
// A [Layout] turns tiles of numeric.Matrix into the bytes of its tensors.
// [Lookup] and [ReadRows] go the other way and know nothing of the writers: they
// go by the tensors' names, dtypes and shapes, and read the files of other
// tools as well.
//
// The formats of other tools, Quark, GPTQ, AWQ and the exports of AutoRound,
// have a [Reader] and no writer. Every weight has one float32
// meaning, (code − zero point) × scale rounded once, the plain product that the
// tool's own decoder computes (docs/facts/formats.md 10). What only the
// declaration tells comes as [Hints]: the size of FP8 blocks, the width of int8
// codes, the version of GPTQ's zero points.
//
// Sources: layouts of compressed-tensors 0.19, transformers FP8, ModelSlim V1,
// as vLLM 0.32/0.33, SGLang 0.5.23 and vllm-ascend 0.18 read them.
package layout
