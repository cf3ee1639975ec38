package calib

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/internal/fsx"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// GatherOptions say where Gather works.
type GatherOptions struct {
	CollectOptions
	Dir         string // of the statistics
	Part, Parts int    // which part of them, counted from 1
	Text        string // TextID of all sequences, of parts
	Source      string // what the checkpoint is, where its headers do not tell (""; SourceID)
	Scratch     string // folder for states and finished layers; what an earlier run left there is gone on with
	FS          fsx.FS
}

// gatherVersion changes when statistics do.
const gatherVersion = "glmconv collect 1"

// Gather is Collect with the states of all tokens in files, so that memory is
// bounded by MaxMemory whatever the text, and with a file of statistics for each
// finished layer, so that a run that was ended goes on behind the last of them. It
// writes a part of the statistics, the bytes of Statistics.Write, and removes what
// is in the scratch folder. Of the moments that it returns only counts are known.
// quant.ErrMemory says what the widest layer and one sequence take.
func Gather(ctx context.Context, cfg *glm.Config, src *safetensors.Checkpoint, seqs [][]int, o GatherOptions) (*Statistics, error) {
	o.FS = fsx.Or(o.FS)
	c := &collector{cfg: cfg, o: o.CollectOptions, seqs: seqs}
	source, err := o.Source, error(nil)
	if source == "" {
		if source, err = SourceID(src); err != nil {
			return nil, err
		}
	}
	g := &gatherer{collector: c, o: o, id: hashText(fmt.Sprintf("%s\n%s\n%s\n%d %d of %d", gatherVersion, source, idsHash(seqs), o.First, o.Part, o.Parts))}
	c.out = &Statistics{Source: source, Sequences: seqs, First: o.First, Text: o.Text}
	if g.room, err = c.room(); err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Scratch); err != nil {
		return nil, err
	}
	p, err := runtime.NewStreaming(cfg, src, 0)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	defer limitHeap(o.limit())()
	if c.m, err = runtime.New(cfg, p, runtime.Options{Threads: o.Workers, Block: blockRows(cfg, o.limit(), longestOf(seqs)), Observe: c.see, ObserveCache: c.cache}); err != nil {
		return nil, err
	}
	if err := g.run(ctx); err != nil {
		return nil, err
	}
	out, err := g.assemble()
	if err != nil {
		return nil, err
	}
	return out, Forget(o.FS, o.Scratch)
}

// Forget removes what Gather left in a scratch folder, and the folder if nothing
// else is in it.
func Forget(fsys fsx.FS, scratch string) error {
	entries, err := os.ReadDir(scratch)
	if err != nil {
		return nil //nolint:nilerr // there is nothing
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, "states-") || strings.HasPrefix(name, "layer-") || fsx.IsTemp(name) {
			if err := fsx.Or(fsys).Remove(filepath.Join(scratch, name)); err != nil {
				return err
			}
		}
	}
	_ = fsx.Or(fsys).Remove(scratch) // not empty: other files are somebody else's
	return nil
}

// room returns how many tokens of states fit beside the moments of the widest
// layer.
func (c *collector) room() (tokens int, err error) {
	total, longest := 0, longestOf(c.seqs)
	for _, s := range c.seqs {
		total += len(s)
	}
	if total == 0 {
		return 0, &quant.Error{Kind: quant.ErrSource, Reason: "there are no tokens to calibrate with"}
	}
	moments, kept := map[int]int64{}, map[int]int64{} // kept: samples of experts, which share the tokens
	widest := int64(0)
	for _, t := range c.cfg.Table() {
		if t.Param != "weight" || !shows(t.Role) {
			continue
		}
		moments[t.Layer] += t.Shape[1] * (16 + 3*4)
		if sampled(t.Role) {
			size := t.Shape[1] * 4 * min(samples, int64(total))
			if t.Role.IsExpert() {
				most := t.Shape[1] * 4 * int64(total) * int64(c.cfg.ExpertsPerToken)
				size = min(size, most-kept[t.Layer])
				kept[t.Layer] += size
			}
			moments[t.Layer] += size
		}
		widest = max(widest, moments[t.Layer])
	}
	limit := c.o.limit()
	widest += int64(blockRows(c.cfg, limit, longest)) * rowBytes(c.cfg)
	if need := widest + collectNeed(c.cfg, longest); need > limit {
		return 0, &quant.Error{Kind: quant.ErrMemory, Reason: fmt.Sprintf("statistics of a layer and the states of %d tokens take %d MiB of memory, %d are allowed",
			longest, need>>20, limit>>20), Advice: "allow it more, or calibrate with shorter sequences"}
	}
	each := collectNeed(c.cfg, 1) - collectNeed(c.cfg, 0)
	return int(min((limit-widest-collectNeed(c.cfg, 0))/each, int64(total))), nil
}

// gatherer is one run of Gather.
type gatherer struct {
	*collector
	o    GatherOptions
	id   string
	room int // tokens at a time
}

// run takes all tokens through the layers that are not finished.
func (g *gatherer) run(ctx context.Context) error {
	first := g.finished()
	if first < 0 {
		if err := g.embed(); err != nil {
			return err
		}
		first = 0
	}
	tr := g.routed()
	for l := first; l < g.cfg.Layers; l++ {
		g.progress(l)
		to, err := createStates(g.o.FS, g.o.Scratch, l+1, g.id)
		if err != nil {
			return err
		}
		err = g.pass(l, func(x []float32, spans []runtime.Span) error {
			for i := range spans {
				spans[i].Cache = new(runtime.LayerCache)
			}
			if err := g.m.Layer(ctx, l, x, spans, tr); err != nil {
				return err
			}
			for at, i := 0, 0; i < len(spans); i++ {
				n := spans[i].N * g.cfg.HiddenSize
				if err := to.put(x[at:at+n], &spans[i]); err != nil {
					return err
				}
				at += n
			}
			return nil
		})
		if err == nil {
			err = g.keep(l)
		}
		if err == nil {
			err = to.commit()
		}
		if err != nil {
			_ = to.abort()
			return err
		}
		_ = g.o.FS.Remove(filepath.Join(g.o.Scratch, statesFile(l)))
	}
	mtp, err := g.m.MTP()
	if err != nil || g.has(g.cfg.Layers) { // none, or not whole, or done
		return nil //nolint:nilerr // the trunk's statistics are whole
	}
	g.progress(g.cfg.Layers)
	err = g.pass(g.cfg.Layers, func(x []float32, spans []runtime.Span) error {
		x, err := g.m.FinalNorm(x)
		if err != nil {
			return err
		}
		return g.draft(ctx, mtp, x, tr)
	})
	if err != nil {
		return err
	}
	return g.keep(g.cfg.Layers)
}

// embed writes the states in front of the first layer.
func (g *gatherer) embed() error {
	to, err := createStates(g.o.FS, g.o.Scratch, 0, g.id)
	if err != nil {
		return err
	}
	defer func() { _ = to.abort() }()
	for _, s := range g.seqs {
		x, err := g.m.Embed(s)
		if err != nil {
			return err
		}
		if err := to.put(x, &runtime.Span{N: len(s)}); err != nil {
			return err
		}
	}
	return to.commit()
}

// pass reads the states in front of a layer and hands out as many sequences at a
// time as there is room for.
func (g *gatherer) pass(l int, do func(x []float32, spans []runtime.Span) error) error {
	g.out.held, g.out.Caches = map[string]*Moments{}, map[string]*Limits{}
	from, err := openStates(g.o.Scratch, l, g.id)
	if err != nil {
		return err
	}
	defer from.close()
	all := g.seqs
	defer func() { g.seqs = all }()
	for at := 0; at < len(all); {
		n, rows := at, 0
		for ; n < len(all) && (n == at || rows+len(all[n]) <= g.room); n++ {
			rows += len(all[n])
		}
		g.seqs, g.keys = all[at:n], g.keys[:0]
		x, spans := make([]float32, rows*g.cfg.HiddenSize), make([]runtime.Span, n-at)
		rest := x
		for i, q := range g.seqs {
			size := len(q) * g.cfg.HiddenSize
			if spans[i], err = from.next(len(q), rest[:size]); err != nil {
				return fmt.Errorf("%s: %w", g.o.Scratch, err)
			}
			rest = rest[size:]
			for p := range q {
				g.keys = append(g.keys, keyOf(g.o.First+at+i, p))
			}
		}
		g.begin()
		if err := do(x, spans); err != nil {
			return err
		}
		at = n
	}
	return nil
}

// keep writes the statistics of a layer.
func (g *gatherer) keep(l int) error {
	list, err := g.out.tensors()
	if err != nil {
		return err
	}
	return writeTensors(g.o.FS, g.o.Scratch, layerFile(l), list, map[string]string{"id": g.id})
}

// has reports whether the statistics of a layer are there.
func (g *gatherer) has(l int) bool {
	f, err := safetensors.OpenFile(filepath.Join(g.o.Scratch, layerFile(l)))
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Metadata()["id"] == g.id
}

// finished returns the layer that an earlier run came to; -1: none.
func (g *gatherer) finished() int {
	for l := g.cfg.Layers; l >= 0; l-- {
		if !wholeStates(g.o.Scratch, l, g.id) {
			continue
		}
		for i := range l {
			if !g.has(i) {
				return -1
			}
		}
		return l
	}
	return -1
}

// assemble writes the part of the layers' files.
func (g *gatherer) assemble() (*Statistics, error) {
	out := &Statistics{Source: g.out.Source, Sequences: g.seqs, First: g.o.First, Text: g.o.Text, held: map[string]*Moments{}, Caches: map[string]*Limits{}}
	list := out.header()
	for l := range g.cfg.Layers + 1 {
		f, err := safetensors.OpenFile(filepath.Join(g.o.Scratch, layerFile(l)))
		if errors.Is(err, os.ErrNotExist) && l == g.cfg.Layers {
			break // without an MTP layer
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r := &reader{f: f}
		for _, t := range f.Tensors() {
			list = append(list, tensorOut{spec: safetensors.Spec{Name: t.Name, DType: t.DType, Shape: t.Shape}, from: f})
			if base, ok := strings.CutSuffix(t.Name, ".count"); ok {
				if n := r.ints(t.Name, 8); len(n) == 1 {
					out.held[base+".weight"] = &Moments{Count: n[0]}
				}
			}
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	return out, writeTensors(g.o.FS, g.o.Dir, PartName(g.o.Part, g.o.Parts), list, out.metadata(g.o.Part, g.o.Parts))
}
