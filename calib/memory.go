package calib

import (
	"fmt"
	"runtime/debug"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
)

// passBase is what a process and the tiles of weights that it reads take.
const passBase = 96 << 20

// collectNeed is what taking some tokens through a layer takes.
func collectNeed(cfg *glm.Config, tokens int) int64 {
	return passBase + int64(tokens)*tokenBytes(cfg)
}

// tokenBytes is what a token takes while a layer is computed: its state, what is
// added to it, its shares of the experts' inputs and outputs, and what a shared
// expert holds.
func tokenBytes(cfg *glm.Config) int64 {
	return 4 * (6*int64(cfg.HiddenSize) + 3*int64(cfg.MoEIntermediateSize)*int64(min(cfg.SharedExperts, 1)))
}

// rowBytes is what a row takes besides in attention or a dense MLP, which are
// computed block by block.
func rowBytes(cfg *glm.Config) int64 {
	h, heads := int64(cfg.HiddenSize), int64(cfg.Heads)
	att := 3*h + heads*int64(cfg.HeadDim)*3 + 2*int64(cfg.KVHeads)*int64(cfg.HeadDim)
	if cfg.LatentAttention() {
		att = 3*h + 2*int64(cfg.QLoraRank) + heads*int64(cfg.QKNopeHeadDim+2*cfg.QKRopeHeadDim+2*cfg.KVLoraRank+cfg.VHeadDim)
	}
	return 4 * max(att, 2*h+3*int64(cfg.IntermediateSize))
}

// blockRows is how many rows of attention are computed together within a limit
// of memory: a sixteenth of it, whole sequences.
func blockRows(cfg *glm.Config, limit int64, longest int) int {
	return min(max(int(limit/16/rowBytes(cfg)), longest), max(4096, longest))
}

// longestOf is the length of the longest sequence.
func longestOf(seqs [][]int) (n int) {
	for _, q := range seqs {
		n = max(n, len(q))
	}
	return n
}

// limitHeap bounds the garbage-collected heap while states are computed; the
// returned function takes that back. A lower limit of the user's own stays.
func limitHeap(limit int64) func() {
	const outside = 32 << 20 // the program itself is not on the heap
	old := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(old, max(limit-outside, 64<<20)))
	return func() { debug.SetMemoryLimit(old) }
}

// itemBytes is what a tensor takes in a plan, in headers and in what is known of
// its codes.
const itemBytes = 2 << 10

// Need is the least memory in bytes that learning codes takes, whatever the
// number of tokens and experts: of the plan, of a layer for the longest sequence,
// and of the widest moments. With more, more tokens go through a layer at a time,
// and inputs and a layer's codes stay out of files.
func Need(p *quant.Plan, longest int) int64 {
	c := p.Config
	var gram, weight, wide int64
	for i := range p.Items {
		if it := &p.Items[i]; it.Action == quant.Quantize {
			r, k := it.Weight.Dims()
			size := learn.GramBytes(k, true)
			if role := it.Weight.Tensor.Role; role.IsExpert() { // beside those of all tokens
				size += 16 * int64(k) * int64(k)
				if role == glm.ExpertDown { // and of those of gate and up
					size += 16 * int64(c.HiddenSize) * int64(c.HiddenSize)
				}
			}
			gram, weight, wide = max(gram, size), max(weight, int64(r)*int64(k)*24), max(wide, int64(r+k))
		}
	}
	return collectNeed(c, longest) + int64(len(p.Items))*itemBytes + int64(longest)*rowBytes(c) + gram + weight + 6*4*spillRows*wide
}

// memory shares the memory that is allowed among the tokens of a pass and inputs
// that are kept.
func (s *solver) memory() error {
	limit := (&CollectOptions{MaxMemory: s.o.MaxMemory}).limit()
	cfg, longest := s.plan.Config, longestOf(s.o.Sequences)
	need := Need(s.plan, longest)
	if need > limit {
		return &quant.Error{Kind: quant.ErrMemory, Reason: fmt.Sprintf("learning codes takes %d MiB of memory, %d are allowed", need>>20, limit>>20),
			Advice: "allow it more, or calibrate with shorter sequences"}
	}
	spare := limit - need
	s.block = max(longest, min(blockRows(cfg, limit, longest), int(spare/4/rowBytes(cfg))))
	spare -= int64(s.block-longest) * rowBytes(cfg)
	s.chunk = max(longest, min(s.rows, longest+int(spare/2/tokenBytes(cfg))))
	s.room = max(0, spare-int64(s.chunk-longest)*tokenBytes(cfg))
	return nil
}
