package layout

import "fmt"

// PerChannel is the group size of int4 with one scale for each output channel.
const PerChannel = -1

// groupsOf names a group size in the words of errors.
func groupsOf(size int) string {
	if size == PerChannel {
		return "a scale for each channel"
	}
	return fmt.Sprintf("groups of %d", size)
}

// setGroup puts the default in the place of no size and refuses sizes that
// nobody has kernels for.
func (o *Options) setGroup() error {
	if o.GroupSize == 0 || o.Scheme.Micro() {
		o.GroupSize = 128
	}
	switch o.GroupSize {
	case 32, 64, 128:
		return nil
	case PerChannel:
		return CheckGroups(o.Scheme, o.Format, PerChannel)
	}
	return &ImpossibleError{What: groupsOf(o.GroupSize), Rule: "the kernels know groups of 32, 64 and 128", Nearest: "groups of 128"}
}

// CheckGroups refuses a group size for a scheme that has no use for it in a
// format. Options.GroupSize itself is not read by such schemes.
func CheckGroups(s Scheme, f Format, size int) error {
	fixed, rule := 0, ""
	switch {
	case s.Micro():
		fixed = micro[s].quant.Group
		rule = fmt.Sprintf("the format has groups of %d built in", fixed)
	case s == FP8Block:
		fixed, rule = 128, "its blocks are 128 x 128"
	case f == Ascend && s == W4A8:
		fixed, rule = PerChannel, "vllm-ascend's int4 has a scale for each output channel, and no groups"
	case s == W4A8:
		return nil // Decide knows the sizes
	case s == W4A16, s == W4A8FP8, s == Int4Int8:
		if size != PerChannel {
			return nil
		}
		fixed, rule = 128, "its int4 has groups"
	case s == BF16:
		rule = "nothing is quantized"
	default:
		fixed, rule = PerChannel, "it has a scale for each output channel, and no groups"
	}
	if size == fixed && fixed != 0 {
		return nil
	}
	e := &ImpossibleError{What: fmt.Sprintf("%s in %s as %s", groupsOf(size), s, f), Rule: rule, Nearest: "no group size; w4a16 has groups"}
	switch {
	case size == PerChannel && fixed == 128:
		e.Nearest = "groups of 128, the default; w4a8 has a scale for each channel, too"
	case fixed > 0:
		e.Nearest = fmt.Sprintf("groups of %d, the default", fixed)
	case s == W4A8:
		e.Nearest = "no group size, or w4a8 as " + string(CompressedTensors)
	}
	return e
}
