// Package diff says what changed between two checkpoints.
//
//	report, err := diff.Run(ctx, "GLM-4.5-Air", "GLM-4.5-Air-w8a8", diff.Options{})
//	fmt.Print(report.Text())
//	if report.Different { … }
//
// It compares on two levels. Tensor by tensor: added, removed, reshaped,
// retyped (another element type), changed (other bytes), same. And module by
// module: wherever a weight is not stored as the same bytes on both sides, it
// is dequantised on both and the difference given as a relative RMS,
// √(Σ(b−a)²/Σa²), and a largest absolute difference; so a BF16 source can be
// compared with any of its quantised forms, two layouts of one scheme with
// each other, and stacked experts with single ones.
//
// Everything is streamed in tiles of a few hundred kilobytes; memory does not
// grow with the checkpoints. The files beside the weights are compared as
// well, except indexes and manifests, which follow from the rest.
package diff
