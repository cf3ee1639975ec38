// Package declaration reads what a checkpoint says of its own quantization:
// the one reader of quantization_config and its like.
//
//	d, err := declaration.Config(raw)       // the quantization_config object of config.json
//	d, err := declaration.Description(raw)  // quant_model_description.json
//	d, err := declaration.File(name, raw)   // any file that declares a quantization, by its name
//	s := d.Of("model.layers.1.mlp.gate_proj") // what it says of a module, by the rules of its own library
//	d.Problems                              // every field that was not understood, by its path
//
// A [Declaration] has the method, the groups in file order with what weights
// and activations are quantized to (package quant/format), the entries of
// modules that are left alone, rules for single modules, and the scheme of the
// key-value cache. Entries keep how they are to be compared: each is a
// [Pattern], the one type for names and expressions, with the semantics of
// Python's re module and a limit of time.
//
// Forms that are read: compressed-tensors (0.1 to 0.20 and sparseml), fp8
// (blocks, per tensor, static), mxfp8, ModelOpt in both spellings, Quark,
// GPTQ, AWQ, auto-round, and the description of msmodelslim. What an engine
// makes of the same words under its own names is package quant/engine's
// affair.
//
// Every field is read, known to have no effect, or listed in Problems; an
// error is returned only for what cannot be read at all.
//
// Sources: compressed-tensors 0.20.1 quantization/quant_config.py,
// quant_scheme.py, quant_args.py and utils/match.py; vLLM 0.32.0
// model_executor/layers/quantization; SGLang 0.5.23 srt/layers/quantization;
// docs/facts/formats.md, docs/facts/ascend.md.
package declaration
