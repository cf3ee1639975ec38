package verify

import "slices"

// Check is one part of a verdict: what [Failed].Check names, or why there is no
// verdict.
type Check struct {
	Name   string
	Means  string // what did not hold
	Cause  string // what leads to it
	Remedy string // what to do
}

// Unmeasured is the name among [Checks] of the verdict [Undecided].
const Unmeasured = "undecided"

// checks are in the order in which they are asked.
var checks = []Check{
	{"input", "the two could not be compared",
		"a folder is not a checkpoint, is damaged, or is of another model than the other",
		"the error names the file; glmconv check DIR says what else is wrong with it"},
	{"exact", "a tensor is lost, added or altered, or a file beside the weights changes answers",
		"a converter dropped, cast or overwrote what should have been copied, or a config, tokenizer or template is of another model",
		"the line names tensor or key; glmconv check DST judges the result alone, glmconv repair DST --from SRC takes back what is not quantized"},
	{"oracle", "weights are further from the source than their rounding can explain, or the scale of an input is not one of inputs that occur",
		"wrong scales, truncation in place of rounding, codes of another weight, noise, or a source that is not the one that was converted",
		"compare the weight that is named with glmconv diff SRC DST, and convert again from the same source"},
	{"logits", "the result's logits are not finite, or it cannot be run",
		"a weight or scale is NaN or infinite, or values overflow",
		"glmconv check --weights DST names the weight"},
	{"kl", "the mean KL divergence of the logits is above --tol",
		"the scheme is too coarse for this model or for some layers, or one layer is damaged: the cause line names the layer that adds most",
		"statistics help most at 4 bits: glmconv calibrate, then quantize --calib; otherwise --budget, a richer --scheme, or --ignore for the layer that is named"},
	{"rails", "one of the guard rails beside the mean does not hold: tail, NRMSE, flips, or choices of the sparse attention",
		"a few positions are far off though the mean is good: outliers, an expert without range, or a wrong indexer",
		"look at the positions and layers of --report FILE.html; a richer scheme for the layer that adds most"},
	{"mtp", "the draft layer does not agree with the trunk as the source's does",
		"the MTP layer is lost, quantized where engines do not expect it, or has copies or a rotation of another model",
		"glmconv inspect DST says in which state the layer is; glmconv mtp-remap DST, glmconv repair DST --from SRC, or quantize with --mtp float"},
	{Unmeasured, "there is no verdict",
		"too few tokens, flat logits, a draft layer that predicts nothing, or an interval of confidence that has --tol inside it",
		"read more or other text: --tokens 8192, --text FILE; the reason says which it is"},
}

// Checks returns every name that [Failed].Check can have, and [Unmeasured].
func Checks() []Check { return slices.Clone(checks) }
