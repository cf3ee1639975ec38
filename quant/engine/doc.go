// Package engine is what glmconv knows of the serving engines: which modules
// they build, how they match a checkpoint's configuration with those modules,
// which checkpoints they load on which hardware at which degree of
// parallelism, and what the serve command must carry. All of it is data and
// string work; nothing is read from disk and no engine is run.
//
//	r, err := engine.Find("vllm-ascend@0.23")            // or Newest(engine.VLLM)
//	d, err := engine.FindDevice("ascend-a3")
//	rows := engine.Judge(subject, engine.Query{Releases: []engine.Release{r}, Hardware: &d})
//	engine.Summarize(rows).Answer                        // loads, differs, refuses or not-judged
//
//	for _, m := range engine.Modules(r, cfg, true) {     // trunk, vision tower and draft, by runtime names
//		engine.Resolve(r, cfg, conf, m)                  // the engine's own matching, its errors included
//	}
//	r.Reacts("scale-zero", true)                         // what it does with damage, by check's codes
//
// Four answers exist: an engine loads a checkpoint; it loads it and computes
// something else; it refuses it; or it is not judged, because no table knows.
// What is not known is never called refused. A checkpoint without its MTP
// layer loads, and the row says that there is no speculative decoding.
//
// # Tables
//
// Each engine has a file of data, vllm.go, sglang.go and ascend.go: its
// releases, and rows that say from and until which of them they hold: formats
// by records of quant/format, entries of Ascend descriptions, demands on
// degrees, damage. A new release is a name in that file's list, and rows where
// it differs; nothing else changes. device.go has the hardware, split.go what
// all engines demand, match_vllm.go, match_sglang.go and match_ascend.go the
// matching of each with compressed-tensors, fp8 and Ascend descriptions, and
// match_modelopt.go, match_quark.go, match_integers.go and match_autoround.go
// that of vLLM and SGLang with the declarations of other tools. For these
// testdata holds the answers of the engines' own classes.
//
// The facts are those of docs/facts/engine-vllm.md,
// docs/facts/engine-sglang.md, docs/facts/engine-vllm-ascend.md and
// docs/facts/ascend.md. Since the engines swallow about half of all faults
// without a word, what is written is compared with what Resolve says for every
// module.
package engine
