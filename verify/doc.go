// Package verify runs a source checkpoint and a quantised result side by side
// and says whether the result is right.
//
//	r, err := verify.Compare(ctx, "GLM-4.5-Air", "Air-w8a8", verify.Options{Tol: 1e-2})
//	if r.Verdict != verify.Pass { … r.Failed, r.Cause … }
//
// # The verdict is a conjunction
//
//	exact    every source tensor accounted for, copies equal to the last bit,
//	         config and tensors agree, MTP layer complete
//	oracle   the written codes are our own rounding of the source
//	logits   mean KL(source‖result) per token, teacher forced, over the real
//	         vocabulary: its one-sided 95 % upper bound is at most Tol; tails,
//	         NRMSE and flips stay under the scheme's guard rails
//	mtp      the draft head agrees with the trunk as often as the source's
//
// A mean KL alone is not a gate: it is blind where logits are flat and hides
// rare catastrophes; exact checks and the oracle see what it cannot. Where the
// figures do not suffice (too few tokens, flat logits, an interval that
// straddles Tol) the verdict is Undecided.
//
// # Without a forward pass
//
// [Static] does what needs no runtime: check's findings, tensors accounted for,
// copies and config compared, weight errors read back from the files.
//
// # In parts
//
// [ComparePart] does one of several parts of a comparison, on any machine, and
// [Merge] makes the verdict of all of them: that of Compare, to the last bit.
//
// # One pass, whatever the size
//
// Both models go through layer by layer in lock-step, all tokens together,
// weights streamed from the shards a tile at a time: a pass costs one read of
// the files, and memory does not depend on the model.
package verify
