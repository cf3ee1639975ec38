package calib

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
)

// passBase is what a process, the tiles of weights that it reads and a few workers take.
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
// and of the widest moments in files. With more, more tokens go through a layer at a
// time, and inputs, a layer's codes and moments stay out of files.
func Need(p *quant.Plan, longest int) int64 { n, _ := needs(p, longest); return n }

// needs are the least memory, and how much of that moments and a weight take.
func needs(p *quant.Plan, longest int) (all, moments int64) {
	wide := 0
	for i := range p.Items {
		if it := &p.Items[i]; it.Action == quant.Quantize {
			r, k := it.Weight.Dims()
			moments, wide = max(moments, min(wholeBytes(p.Config, it), filedBytes(it)+learn.LeastBytes(k))), max(wide, r+k)
		}
	}
	c := p.Config
	return collectNeed(c, longest) + int64(len(p.Items))*itemBytes + int64(longest)*rowBytes(c) + moments + 6*4*spillRows*int64(wide), moments
}

// wholeBytes is what learning a weight takes with moments in memory.
func wholeBytes(c *glm.Config, it *quant.Item) int64 {
	r, k := it.Weight.Dims()
	return momentsBytes(c, it.Weight.Tensor.Role, k) + learn.SolveBytes(r, k)
}

// momentsBytes is what moments and their basis take in memory.
func momentsBytes(c *glm.Config, role glm.Role, cols int) int64 {
	size, k, h := learn.GramBytes(cols, true), int64(cols), int64(c.HiddenSize)
	if role.IsExpert() { // beside those of all tokens
		size += 16 * k * k
	}
	if role == glm.ExpertDown { // and of those of gate and up
		size += 16 * h * h
	}
	return size
}

// filedBytes is what a weight takes beside moments in files: its codes while they are
// made; of a gated MLP also those of gate and up, and a part of one.
func filedBytes(it *quant.Item) int64 {
	r, k := it.Weight.Dims()
	switch role := it.Weight.Tensor.Role; {
	case role == glm.DenseDown, role == glm.SharedDown, role == glm.ExpertDown:
		return 4*int64(r)*int64(k) + 12*int64(min(k, partRows))*int64(r)
	case role.IsExpert(), role.IsShared(), role.IsDense():
		return 4*int64(r)*int64(k) + 12*int64(min(r, partRows))*int64(k)
	case role == glm.AttnKVB: // rounded in one piece
		return 8 * int64(r) * int64(k)
	}
	return 2 * int64(r) * int64(k)
}

// gram are empty sums for the inputs that some modules share: in memory, or in files
// where there is no room for them.
func (s *solver) gram(list ...*module) *learn.Gram {
	m := list[0]
	rest := int64(0)
	whole := true
	for _, x := range list {
		whole = whole && s.holds(x)
		rest = max(rest, filedBytes(x.item))
	}
	if whole {
		return learn.NewGram(m.cols, true)
	}
	room := max(s.learnRoom-rest, learn.LeastBytes(m.cols))
	if s.o.filed > 0 {
		room = s.o.filed
	}
	return learn.NewGramIn(m.cols, true, learn.Room{Files: s, Bytes: room, Interrupted: s.interrupted})
}

// holds reports whether memory has room for the moments of a module. Those of gate and
// up of all tokens are there while down is learnt.
func (s *solver) holds(m *module) bool {
	c, weight := s.plan.Config, learn.SolveBytes(m.rows, m.cols)
	role := m.item.Weight.Tensor.Role
	need := momentsBytes(c, role, m.cols) + weight
	if s.o.filed > 0 {
		return false
	}
	if !role.IsExpert() {
		return need <= s.learnRoom
	}
	inner := c.MoEIntermediateSize
	both := momentsBytes(c, glm.ExpertDown, inner) + weight
	gate := momentsBytes(c, glm.ExpertGate, c.HiddenSize)+weight <= s.learnRoom && both <= s.learnRoom
	if role == glm.ExpertDown && !gate { // those of gate and up are in files
		return need-16*int64(c.HiddenSize)*int64(c.HiddenSize) <= s.learnRoom
	}
	return gate
}

// momentsFile is a file of moments, or of what is made of them.
type momentsFile struct {
	fsx.File
	fs   fsx.FS
	from *os.File
}

// Create implements learn.Files.
func (s *solver) Create(bytes int64) (learn.File, error) {
	s.spills++
	f, err := fsx.CreateTemp(s.o.FS, filepath.Join(s.o.Scratch, fmt.Sprintf("moments-%d.bin", s.spills)))
	if err != nil {
		return nil, err
	}
	m := &momentsFile{File: f, fs: s.o.FS}
	if err = f.Preallocate(bytes); err == nil {
		m.from, err = os.Open(f.Name())
	}
	if err != nil {
		return nil, errors.Join(err, fsx.Discard(s.o.FS, f))
	}
	return m, nil
}

// ReadAt implements learn.File.
func (m *momentsFile) ReadAt(p []byte, off int64) (int, error) { return m.from.ReadAt(p, off) }

// Close removes the file.
func (m *momentsFile) Close() error {
	return errors.Join(m.from.Close(), fsx.Discard(m.fs, m.File))
}

// fewWorkers are as many workers as passBase has room for.
const fewWorkers = 8

// memory shares the memory that is allowed among workers, moments, the tokens of a pass
// and inputs that are kept.
func (s *solver) memory() error {
	limit := (&CollectOptions{MaxMemory: s.o.MaxMemory}).limit()
	cfg, longest := s.plan.Config, longestOf(s.o.Sequences)
	need, moments := needs(s.plan, longest)
	if need > limit {
		return &quant.Error{Kind: quant.ErrMemory, Reason: fmt.Sprintf("learning codes takes %d MiB of memory, %d are allowed", need>>20, limit>>20),
			Advice: "allow it more, or calibrate with shorter sequences"}
	}
	spare, more := limit-need, int64(0)
	extra := min(max(int64(s.workers.N)-fewWorkers, 0), spare/2/learn.WorkerBytes)
	s.workers.N = min(s.workers.N, fewWorkers+int(extra))
	spare -= extra * learn.WorkerBytes
	for i := range s.plan.Items {
		if it := &s.plan.Items[i]; it.Action == quant.Quantize {
			more = max(more, wholeBytes(cfg, it)-moments)
		}
	}
	if more > spare { // the more, the fewer times inputs are read
		more = spare / 4 * 3
	}
	s.learnRoom, spare = moments+more, spare-more
	s.block = max(longest, min(blockRows(cfg, limit, longest), int(spare/4/rowBytes(cfg))))
	spare -= int64(s.block-longest) * rowBytes(cfg)
	s.chunk = max(longest, min(s.rows, longest+int(spare/2/tokenBytes(cfg))))
	s.room = max(0, spare-int64(s.chunk-longest)*tokenBytes(cfg))
	return nil
}
