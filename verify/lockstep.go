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

// openSide opens a checkpoint whose weights are streamed.
func openSide(dir string, o *Options) (*side, error) {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	ckpt, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	s := &side{dir: dir, read: ckpt.BytesRead}
	p, err := runtime.NewStreaming(cfg, ckpt, o.tile())
	if err == nil {
		s.close = func() error { p.Stop(); return ckpt.Close() }
		s.m, err = runtime.New(cfg, p, runtime.Options{Threads: o.Workers, Block: o.block(cfg)})
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

// layerSums adds up what is said of a layer, over the batches of a comparison.
type layerSums struct {
	Inherited, Size float64 // squares: y−x on own states, x
	Own, OwnSize    float64 // the same on the source's states, of probes
	Same, Flips     float64 // of the routers, by row
	Routed          int
	Keys, OwnKeys   float64 // overlap of the indexer's choices, by row; OwnKeys of probes
	Chosen, Probed  int
}

// Probed chooses the sequences that both models compute a second time, a
// quarter: the source for the noise floor, the result to tell what each of its
// layers does to a state that is right.
func Probed(seq int) bool { return seq%4 == 0 }

// lockstep runs both models layer by layer over some sequences, numbered from
// first on, and leaves the states after model.norm in the sides. For the
// sequences that are probed, which follow the others in the same pass, the
// source's layer reads its states rounded to BF16 after every layer, as engines
// keep them, and the result's layer the source's states: each weight is read
// once. Both models run at the same time, so that one reads while the other
// computes. The pass begins where from says, if that is given, and calls save
// after each layer.
func lockstep(ctx context.Context, src, res *side, seqs [][]int, first int, sums []layerSums, from *resumed, save func(layer int, x, y []float32, a, b []runtime.Span) error, o *Options) error {
	var ids []int
	var a, again []runtime.Span
	var probes []rowRange
	for i, s := range seqs {
		if Probed(first + i) {
			probes = append(probes, rowRange{len(ids), len(ids) + len(s)})
			again = append(again, runtime.Span{N: len(s)})
		}
		ids = append(ids, s...)
		a = append(a, runtime.Span{N: len(s)})
	}
	a = append(a, again...)
	b := slices.Clone(a)
	rows, h := len(ids), src.m.Config().HiddenSize
	x, err := src.m.Embed(ids)
	if err != nil {
		return err
	}
	y, err := res.m.Embed(ids)
	if err != nil {
		return err
	}
	n := rows * h
	x, y = appendRows(x, x, probes, h), appendRows(y, x, probes, h)
	start := 0
	if from != nil && len(from.x) == len(x) && len(from.y) == len(y) {
		x, y, start = from.x, from.y, from.Layer
		putKeys(a, from.KeysA)
		putKeys(b, from.KeysB)
	}
	for l := start; l < src.m.Layers(); l++ {
		for i := range a {
			a[i].Cache = new(runtime.LayerCache)
		}
		for i := range b {
			b[i].Cache = new(runtime.LayerCache)
		}
		var own, other, keys, otherKeys [][]int32
		err := both(ctx, func(ctx context.Context) error {
			err := src.m.Layer(ctx, l, x, a, &runtime.Trace{
				Router: func(_, row int, e []int32, _ []float32) {
					if row < rows {
						own = append(own, e)
					}
				},
				Keys: func(_, row int, k []int32) {
					if row < rows {
						keys = append(keys, k)
					}
				},
			})
			if err != nil {
				return src.named(err)
			}
			for i := n; i < len(x); i++ {
				x[i] = numeric.RoundBF16(x[i])
			}
			return nil
		}, func(ctx context.Context) error {
			err := res.m.Layer(ctx, l, y, b, &runtime.Trace{
				Router: func(_, row int, e []int32, _ []float32) {
					if row < rows {
						other = append(other, e)
					}
				},
				Keys: func(_, _ int, k []int32) { otherKeys = append(otherKeys, k) }, // the probes' too
			})
			if err != nil {
				return res.named(err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		sums[l].add(x[:n], y[:n], own, other)
		sums[l].addKeys(seqs, probes, keys, otherKeys)
		sums[l].addOwn(x, y[n:], probes, h)
		y = appendRows(y[:n], x, probes, h)
		o.layerDone(rows)
		if err := save(l+1, x, y, a, b); err != nil {
			return err
		}
	}
	if src.final, err = src.m.FinalNorm(x); err != nil {
		return err
	}
	res.final, err = res.m.FinalNorm(y[:n])
	return err
}

// both runs two functions at the same time; the first error ends the other.
func both(ctx context.Context, f, g func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f(ctx) })
	group.Go(func() error { return g(ctx) })
	return group.Wait()
}

// rowRange are the rows of a sequence in a batch.
type rowRange struct{ lo, hi int }

// appendRows appends some rows of x, which have h elements, to y.
func appendRows(y, x []float32, ranges []rowRange, h int) []float32 {
	for _, r := range ranges {
		y = append(y, x[r.lo*h:r.hi*h]...)
	}
	return y
}

// addSquares adds Σ(y−x)² and Σx² element by element: how rows are cut into
// batches changes no bit.
func addSquares(diff, size *float64, x, y []float32) {
	a, b := *diff, *size
	for i, v := range x {
		d, w := float64(y[i])-float64(v), float64(v)
		a += d * d
		b += w * w
	}
	*diff, *size = a, b
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
func (s *layerSums) addOwn(x, own []float32, probes []rowRange, h int) {
	for _, p := range probes {
		n := (p.hi - p.lo) * h
		addSquares(&s.Own, &s.OwnSize, x[p.lo*h:p.hi*h], own[:n])
		own = own[n:]
	}
}

// addKeys takes the keys that an indexer chose for each row: the source's, and
// the result's on its own states and then on the source's, for the probes. Rows
// that attend to all tokens before them had no choice.
func (s *layerSums) addKeys(seqs [][]int, probes []rowRange, a, b [][]int32) {
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
	for _, seq := range seqs {
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
