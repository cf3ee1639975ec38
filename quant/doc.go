// Package quant plans the conversion of a GLM checkpoint into a quantized one;
// package convert carries plans out.
//
//	src, err := safetensors.OpenDir(dir)                  // headers only
//	plan, err := quant.NewPlan(src, quant.W4A8, layout.Ascend, quant.Options{})
//	fmt.Println(plan.Summary())                           // every tensor's fate, bytes, engines
//	result, err := convert.Run(ctx, plan, src, dst, convert.Options{})
//	manifest, err := quant.ReadManifest(dst)              // what the result is made of
//
// # Plans
//
// [NewPlan] plans for a checkpoint that is there, [PlanPublished] for a published
// one by its name, and [OpenRotated] for a checkpoint in another basis. A [Plan]
// holds every decision: what becomes of each tensor and why ([Item]), under which
// name, dtype and shape, in which file at which offset ([File]), and the text of
// the configuration and the index. Making one reads config.json and headers, so a
// 1.5 TB checkpoint takes seconds, and carrying it out leaves nothing to decide.
// Every source tensor is quantized, copied or dropped by a rule that the plan
// names; nothing is dropped unless asked.
//
// [Plan.Summary] is for people and [Plan.JSON] for scripts. [Plan.EnginesFor] says
// which engines load the result, [Plan.VerifyMatching] whether they build what is
// stored, and [Plan.Expected] which tensors the result must hold, computed from the
// family's table and not from what is written.
//
// # Data from elsewhere
//
// Packages calib and calib/learn measure and learn what a plan takes as data:
// largest magnitudes ([Options].Inputs), ranges ([Options].Ranges), folds
// ([Options].Folds) and codes ([Plan.Learn]).
//
// # Results
//
// A finished result ends with glmconv-manifest.json: [ReadManifest] reads it. A
// [Rounder] rounds the weight of a module again, without files, so that codes of a
// result can be compared.
//
// # Errors
//
// Errors match a sentinel of this package (errors.Is), and an [*Error] has its
// parts: a reason and what the caller can do.
package quant
