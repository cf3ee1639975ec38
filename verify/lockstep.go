package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// side is one of the two models.
type side struct {
	dir   string
	m     *runtime.Model
	final []float32 // [R, H] after model.norm; the source's with the rounded probes after them
	read  func() int64
	close func() error
}

// openSide opens a checkpoint whose weights are streamed, to be computed as on an
// NPU's path; weightsOnly leaves activations unrounded. What is seen of inputs whose
// scales are stored goes into seen; nil: nothing.
func openSide(f *folders, dir string, o *Options, weightsOnly bool, path runtime.NPUPath, seen *forward) (*side, error) {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	ckpt, err := f.whole(dir)
	if err != nil {
		return nil, err
	}
	s := &side{dir: dir, read: ckpt.BytesRead}
	caches, err := runtime.ReadCaches(dir)
	if err != nil {
		_ = ckpt.Close()
		return nil, s.named(err)
	}
	p, err := runtime.NewStreaming(cfg, ckpt, o.tile())
	if err == nil {
		if weightsOnly {
			p.WeightsOnly()
		}
		s.close = func() error { p.Stop(); return ckpt.Close() }
		run := runtime.Options{Threads: o.Workers, Block: o.block(cfg), Caches: caches, Path: path}
		if seen != nil {
			seen.Inputs = storedReach(cfg, ckpt)
			run.Observe = seen.see()
		}
		s.m, err = runtime.New(cfg, p, run)
	}
	if err != nil {
		_ = ckpt.Close()
		return nil, s.named(err)
	}
	return s, nil
}

// named says of which model an error is, unless it names a file.
func (s *side) named(err error) error {
	var file *safetensors.Error
	if errors.As(err, &file) {
		return err
	}
	return fmt.Errorf("%s: %w", s.dir, err)
}

// layerSums adds up what is said of a layer, over the rows of a sequence.
type layerSums struct {
	Inherited, Size float64 // squares: y−x on own states, x
	Own, OwnSize    float64 // the same on the source's states, of probes
	Same, Flips     float64 // of the routers, by row
	Routed          int
	Keys, OwnKeys   float64 // overlap of the indexer's choices, by row; OwnKeys of probes
	Chosen, Probed  int
}

// probed chooses the sequences that both models compute a second time, a
// quarter: the source for the noise floor, the result to tell what each of its
// layers does to a state that is right.
func probed(seq int) bool { return seq%4 == 0 }

// streams are the states of both models between two layers, rows × hidden
// size: those of the batch's tokens and after them those of the probes.
type streams struct {
	x, y   []float32 // the source's, the result's
	a, b   []runtime.Span
	probes []rowRange
	rows   int // tokens of the batch
	h      int // hidden size
}

// begin embeds the tokens of a batch, or takes the streams of the run that this
// one goes on with, and returns the layer to begin with.
func (c *comparison) begin(b batch) (*streams, int, error) {
	s := &streams{h: c.src.m.Config().HiddenSize}
	var ids []int
	var again []runtime.Span
	for i, seq := range b.seqs {
		if probed(b.first + i) {
			s.probes = append(s.probes, rowRange{len(ids), len(ids) + len(seq), i})
			again = append(again, runtime.Span{N: len(seq)})
		}
		ids = append(ids, seq...)
		s.a = append(s.a, runtime.Span{N: len(seq)})
	}
	s.a = append(s.a, again...)
	s.b, s.rows = slices.Clone(s.a), len(ids)
	x, err := c.src.m.Embed(ids)
	if err != nil {
		return nil, 0, err
	}
	y, err := c.res.m.Embed(ids)
	if err != nil {
		return nil, 0, err
	}
	s.x, s.y = appendRows(x, x, s.probes, s.h), appendRows(y, x, s.probes, s.h)
	if f := c.from; f != nil && len(f.x) == len(s.x) && len(f.y) == len(s.y) {
		s.x, s.y = f.x, f.y
		putKeys(s.a, f.KeysA)
		putKeys(s.b, f.KeysB)
		return s, f.Layer, nil
	}
	return s, 0, nil
}

// lockstep runs both models layer by layer over a batch and leaves the states
// after model.norm in the sides. For the sequences that are probed, which
// follow the others in the same pass, the source's layer reads its states
// rounded to BF16 after every layer, as engines keep them, and the result's
// layer the source's states: each weight is read once. Both models run at the
// same time, so that one reads while the other computes. save is called after
// each layer.
func (c *comparison) lockstep(ctx context.Context, p *point, b batch, save func(layer int, x, y []float32, a, b []runtime.Span) error) error {
	s, start, err := c.begin(b)
	if err != nil {
		return err
	}
	p.prepare(b, start)
	own := p.Sequences[p.First:]
	n := s.rows * s.h
	for l := start; l < c.src.m.Layers(); l++ {
		seen, err := c.layer(ctx, l, s)
		if err != nil {
			return err
		}
		sums := s.sums(b.seqs, seen)
		for i := range own {
			own[i].Layers = append(own[i].Layers[:l], sums[i])
		}
		s.y = appendRows(s.y[:n], s.x, s.probes, s.h)
		c.o.layerDone(s.rows)
		if err := save(l+1, s.x, s.y, s.a, s.b); err != nil {
			return err
		}
	}
	if c.src.final, err = c.src.m.FinalNorm(s.x); err != nil {
		return err
	}
	c.res.final, err = c.res.m.FinalNorm(s.y[:n])
	return err
}

// choicesOfLayer are the experts and keys that a layer chose for each row, the
// source's and the result's. The result's keys include those of the probes.
type choicesOfLayer struct{ experts, keys [2][][]int32 }

// layer runs layer l of both models over the streams.
func (c *comparison) layer(ctx context.Context, l int, s *streams) (seen choicesOfLayer, err error) {
	for i := range s.a {
		s.a[i].Cache, s.b[i].Cache = new(runtime.LayerCache), new(runtime.LayerCache)
	}
	router := func(k int) func(int, int, []int32, []float32) {
		return func(_, row int, e []int32, _ []float32) {
			if row < s.rows {
				seen.experts[k] = append(seen.experts[k], e)
			}
		}
	}
	err = both(ctx, func(ctx context.Context) error {
		keys := func(_, row int, chosen []int32) {
			if row < s.rows {
				seen.keys[0] = append(seen.keys[0], chosen)
			}
		}
		if err := c.src.m.Layer(ctx, l, s.x, s.a, &runtime.Trace{Router: router(0), Keys: keys}); err != nil {
			return c.src.named(err)
		}
		for i := s.rows * s.h; i < len(s.x); i++ {
			s.x[i] = numeric.RoundBF16(s.x[i])
		}
		return nil
	}, func(ctx context.Context) error {
		keys := func(_, _ int, chosen []int32) { seen.keys[1] = append(seen.keys[1], chosen) }
		if err := c.res.m.Layer(ctx, l, s.y, s.b, &runtime.Trace{Router: router(1), Keys: keys}); err != nil {
			return c.res.named(err)
		}
		return nil
	})
	return seen, err
}

// both runs two functions at the same time; the first error ends the other.
func both(ctx context.Context, f, g func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f(ctx) })
	group.Go(func() error { return g(ctx) })
	return group.Wait()
}

// rowRange are the rows of a sequence in a batch, and its place there.
type rowRange struct{ lo, hi, seq int }

// appendRows appends some rows of x, which have h elements, to y.
func appendRows(y, x []float32, ranges []rowRange, h int) []float32 {
	for _, r := range ranges {
		y = append(y, x[r.lo*h:r.hi*h]...)
	}
	return y
}

// addSquares adds Σ(y−x)² and Σx² element by element.
func addSquares(diff, size *float64, x, y []float32) {
	a, b := *diff, *size
	for i, v := range x {
		d, w := float64(y[i])-float64(v), float64(v)
		a += d * d
		b += w * w
	}
	*diff, *size = a, b
}

// sums are what a layer showed of each sequence. They are added up in the order
// of the sequences in the end: how these are cut into batches and parts changes
// no bit.
func (s *streams) sums(seqs [][]int, seen choicesOfLayer) []layerSums {
	out := make([]layerSums, len(seqs))
	n, row := s.rows*s.h, 0
	for i, seq := range seqs {
		lo, hi := row*s.h, (row+len(seq))*s.h
		out[i].add(s.x[lo:hi], s.y[lo:hi], rowsOf(seen.experts[0], row, len(seq)), rowsOf(seen.experts[1], row, len(seq)))
		row += len(seq)
	}
	addKeys(out, seqs, s.probes, seen.keys[0], seen.keys[1])
	addOwn(out, s.x, s.y[n:], s.probes, s.h)
	return out
}

// rowsOf are some rows of a list that has one entry a row, or none at all.
func rowsOf(list [][]int32, at, n int) [][]int32 {
	if len(list) < at+n {
		return nil
	}
	return list[at : at+n]
}

// add takes the states after a layer, the source's and the result's, and the
// experts of every row.
func (s *layerSums) add(x, y []float32, a, b [][]int32) {
	addSquares(&s.Inherited, &s.Size, x, y)
	if len(a) != len(b) {
		return
	}
	for i, e := range a {
		same := jaccard(e, b[i])
		s.Same += same
		if same < 1 {
			s.Flips++
		}
	}
	s.Routed += len(a)
}

// addOwn takes the states after the source's layer and, for the probes, those
// after the result's layer on the same.
func addOwn(list []layerSums, x, own []float32, probes []rowRange, h int) {
	for _, p := range probes {
		n := (p.hi - p.lo) * h
		addSquares(&list[p.seq].Own, &list[p.seq].OwnSize, x[p.lo*h:p.hi*h], own[:n])
		own = own[n:]
	}
}

// addKeys takes the keys that an indexer chose for each row: the source's, and
// the result's on its own states and then on the source's, for the probes. Rows
// that attend to all tokens before them had no choice.
func addKeys(list []layerSums, seqs [][]int, probes []rowRange, a, b [][]int32) {
	if len(a) == 0 {
		return // no indexer
	}
	probe := map[int]int{} // row of b for a row of a
	next := len(a)
	for _, p := range probes {
		for r := p.lo; r < p.hi; r++ {
			probe[r] = next
			next++
		}
	}
	if len(b) != next {
		return
	}
	row := 0
	for i, seq := range seqs {
		s := &list[i]
		for slot := range seq {
			if row >= len(a) {
				return
			}
			if len(a[row]) <= slot {
				s.Keys += jaccard(a[row], b[row])
				s.Chosen++
				if at, ok := probe[row]; ok {
					s.OwnKeys += jaccard(a[row], b[at])
					s.Probed++
				}
			}
			row++
		}
	}
}

// jaccard is |a∩b|/|a∪b|, 1 for two empty sets.
func jaccard(a, b []int32) float64 {
	common := 0
	for _, x := range a {
		if slices.Contains(b, x) {
			common++
		}
	}
	if union := len(a) + len(b) - common; union > 0 {
		return float64(common) / float64(union)
	}
	return 1
}

// plus adds the sums of another sequence.
func (s *layerSums) plus(x *layerSums) {
	s.Inherited, s.Size = s.Inherited+x.Inherited, s.Size+x.Size
	s.Own, s.OwnSize = s.Own+x.Own, s.OwnSize+x.OwnSize
	s.Same, s.Flips, s.Routed = s.Same+x.Same, s.Flips+x.Flips, s.Routed+x.Routed
	s.Keys, s.OwnKeys = s.Keys+x.Keys, s.OwnKeys+x.OwnKeys
	s.Chosen, s.Probed = s.Chosen+x.Chosen, s.Probed+x.Probed
}

// layer condenses the sums.
func (s *layerSums) layer(l int) Layer {
	out := Layer{Layer: l, Error: root(s.Inherited, s.Size), Own: root(s.Own, s.OwnSize), RouterSame: 1, KeysSame: 1, KeysOwn: 1}
	if s.Routed > 0 {
		out.RouterSame, out.RouterFlip = s.Same/float64(s.Routed), s.Flips/float64(s.Routed)
	}
	if s.Chosen > 0 {
		out.KeysSame = s.Keys / float64(s.Chosen)
	}
	if s.Probed > 0 {
		out.KeysOwn = s.OwnKeys / float64(s.Probed)
	}
	return out
}

// root is √(part/whole); NaN and infinities as they come.
func root(part, whole float64) float64 {
	if part == 0 {
		return 0
	}
	return math.Sqrt(part / whole)
}
