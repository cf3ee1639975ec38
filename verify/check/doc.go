// Package check judges one checkpoint by itself: its files, headers, index,
// manifest, config, tensors, scales and what each engine would make of it.
//
//	report, err := check.Run(ctx, "GLM-4.5-Air-w8a8", check.Options{})
//	fmt.Print(report.Text())
//	if !report.OK { … }
//
// It works on checkpoints of other tools as well. With a
// glmconv-manifest.json every file's SHA-256 is compared; without one that
// much is said, and the rest is checked all the same.
//
// # Why
//
// The engines check little. On a quantised checkpoint vLLM does not notice a
// missing tensor, SGLang reports none at all; a full-precision weight where
// the config says FP8 is cast to FP8 without a scale; a quantised eh_proj, an
// INT8 indexer.wk, a lost router bias load without a word and cost accuracy
// or acceptance (docs/facts/engine-vllm.md 0, docs/facts/engine-sglang.md 4,
// docs/facts/engine-vllm-ascend.md 2.1). So the expected set of tensors (name,
// element type, exact shape, every expert and the MTP layer one by one) is
// computed here from config.json and the layouts' rules, by code that shares
// nothing with the writers, and compared with the files.
//
// # What comes out
//
// A [Report] lists [Finding]s, each with a stable code. [Codes] is the
// registry of codes with their meaning. Report.OK is false if there is an
// error among them; Report.Cause says in one sentence what the directory is,
// where the pattern of findings is known: the output of llm-compressor
// without an ignore list, of msmodelslim with its lost router biases, of a
// job killed between the last shard and the config.
// Findings that are alike (the same code in place after place) are listed a
// few times and summed up.
//
// # Structure
//
// load reads the directory into a subject; each check is a method of subject
// that appends findings, one file a theme: files.go, manifest.go, config.go,
// beside.go, tensors.go, special.go, values.go, description.go, engines.go; cause.go
// draws the conclusion. form.go holds the layouts' rules, declared.go what a
// config says of itself. [Inspect] is the quick look that judges nothing.
package check
