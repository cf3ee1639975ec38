// Package synth writes synthetic GLM checkpoints: true tensor names, shapes
// and files of any family, random weights. They serve to test sizes, layouts,
// speed and memory; the text such a model would write is noise.
//
//	plan, err := synth.NewPlan(synth.Options{Preset: "glm-4.5-air", Layers: 3, Experts: 16, Vocab: 4096})
//	err = plan.Write(ctx, dir)
//
// A [Plan] is complete before anything is written: config.json, every tensor
// with dtype, shape and place. [Plan.Infos] gives it to code that needs no
// files. With Options.Sparse the files have true headers and sizes, but their
// data is a hole that takes no room on disk: all of GLM-5, 1.5 TB, in seconds.
//
// # Values
//
// Weights are normal with standard deviation 0.02, norms lie around 1, biases
// around 0, and the router bias is F32, 7 to 11 depending on the layer with a
// spread of 0.05, as in the published models. An element depends on the seed,
// the name of its tensor and its position there, on nothing else: not on
// shards, on workers, or on whether experts are stacked. Copies of embedding
// and head in an MTP layer equal the originals.
//
// The command glmsynth below this package writes checkpoints from a shell.
package synth
