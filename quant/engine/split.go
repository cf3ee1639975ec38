package engine

import (
	"fmt"
	"slices"
)

// everywhere are the demands of all engines on how a model splits over ranks
// (vllm 0.32 model_executor/layers/linear.py, sglang 0.5.23 srt/layers/linear.py).
var everywhere = []rule{
	{check: func(c cell) string {
		if c.Config.Heads%c.tp != 0 {
			return fmt.Sprintf("%d attention heads do not split over %d ranks", c.Config.Heads, c.tp)
		}
		if kv := c.Config.KVHeads; !c.Config.LatentAttention() && kv%c.tp != 0 && c.tp%kv != 0 {
			return fmt.Sprintf("%d KV heads do not split over %d ranks", kv, c.tp)
		}
		if c.ep && c.Config.Experts%c.tp != 0 {
			return fmt.Sprintf("%d experts do not split over %d ranks", c.Config.Experts, c.tp)
		}
		for _, d := range []struct {
			name string
			n    int
		}{{"intermediate_size", c.Config.IntermediateSize}, {"moe_intermediate_size", c.Config.MoEIntermediateSize}} {
			if d.n%c.tp != 0 {
				return fmt.Sprintf("%s %d does not split over %d ranks", d.name, d.n, c.tp)
			}
		}
		return ""
	}},
	{applies: func(c cell) bool { return c.Config.SparseAttention() && c.device.Sparse == nil }, check: func(c cell) string {
		return fmt.Sprintf("%s has no kernels for sparse attention on %s", c.release.Title(), c.device.Generation)
	}},
	{applies: func(c cell) bool { return c.Config.SparseAttention() && c.device.Sparse != nil }, answer: NotJudged, check: func(c cell) string {
		if slices.Contains(c.device.Sparse, c.release.Engine) {
			return ""
		}
		return fmt.Sprintf("no table says whether %s has sparse attention on %s", c.release.Title(), c.device.Generation)
	}},
}

// expertWidth is the width of a routed expert on one rank: experts stay whole
// with expert parallelism.
func (c cell) expertWidth() int {
	if c.ep {
		return c.Config.MoEIntermediateSize
	}
	return c.Config.MoEIntermediateSize / c.tp
}

func (c cell) attentionWidth() int {
	if c.Config.LatentAttention() {
		return c.Config.Heads * c.Config.VHeadDim / c.tp
	}
	return c.Config.Heads * c.Config.HeadDim / c.tp
}

// width is a part of the model and how wide its input is on one rank.
type width struct {
	what string
	n    int
	part Part
}

// linears are the parts that are split over ranks even with expert
// parallelism.
func (c cell) linears() []width {
	return []width{
		{"shared expert", c.Config.MoEIntermediateSize * c.Config.SharedExperts / c.tp, c.Shared},
		{"dense MLP", c.Config.IntermediateSize / c.tp, c.Dense},
		{"attention output", c.attentionWidth(), c.Output},
	}
}

// blocksFit: blocks of 128 must not be cut in linears.
func blocksFit(c cell) string {
	for _, d := range c.linears() {
		if d.part.blockFP8() && c.tp > 1 && d.n%128 != 0 {
			return fmt.Sprintf("%s width per rank must be a multiple of 128, it is %d", d.what, d.n)
		}
	}
	return ""
}

// expertBlocksFit: nor in experts.
func expertBlocksFit(c cell) string {
	if c.Experts.blockFP8() && c.expertWidth()%128 != 0 {
		return fmt.Sprintf("expert width per rank must be a multiple of 128, it is %d", c.expertWidth())
	}
	return blocksFit(c)
}

// groupsFit: groups of columns must not be cut.
func groupsFit(c cell) string {
	for _, d := range append([]width{{"expert", c.expertWidth(), c.Experts}}, c.linears()...) {
		if g := d.part.Weight.Group; g > 0 && d.n%g != 0 {
			return fmt.Sprintf("%s width per rank %d is no multiple of the group size %d; use expert parallelism or smaller groups", d.what, d.n, g)
		}
	}
	return ""
}

// wideKernel: the kernel of int4 experts with FP8 activations takes 256
// columns at a time.
func wideKernel(c cell) string {
	if c.expertWidth()%256 != 0 || c.Config.HiddenSize%256 != 0 {
		return fmt.Sprintf("hidden size and expert width per rank must be multiples of 256, they are %d and %d", c.Config.HiddenSize, c.expertWidth())
	}
	return blocksFit(c)
}

func int4FP8(c cell) bool {
	return c.Layout == CompressedTensors && c.Experts.int4() && c.Experts.floatInput()
}

func gcd(n ...int) int {
	g := n[0]
	for _, x := range n[1:] {
		for x != 0 {
			g, x = x, g%x
		}
	}
	return g
}

// splitVision reports whether the vision tower's heads do not split.
func (c cell) splitVision() bool {
	return c.Config.Vision != nil && c.Config.Vision.Heads > 0 && c.Config.Vision.Heads%c.tp != 0
}
