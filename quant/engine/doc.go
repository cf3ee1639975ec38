// Package engine is what glmconv knows of the serving engines: which modules
// they build, how they match a checkpoint's configuration with those modules,
// which results they load at which degree of parallelism, and what the serve
// command must carry. All of it is data and string work; nothing is read from
// disk and no engine is run.
//
//	[Modules]  runtime modules of trunk, vision tower and draft
//	[Resolve]  the engine's own matching rules, its errors included
//	[Loads]    the table of load rules: divisibility, missing classes, flags
//
// The rules are those of vLLM 0.32 and 0.33, SGLang 0.5.23 and vllm-ascend
// 0.18; each names its source page. A new release changes rows here and
// nothing else. Since the engines swallow about half of all faults without a
// word, what is written is compared with what Resolve says for every module.
package engine
