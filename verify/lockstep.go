package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/internal/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// side is one of the two models.
type side struct {
	dir   string
	m     *runtime.Model
	final []float32 // [R, H] after model.norm; the source's with the rounded rows after them
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
	Inherited, Own, Size float64 // squares: y−x on own states, on the source's, x
	Same, Flips          float64 // of the routers, by row
	Routed               int
	Keys, OwnKeys        float64 // overlap of the indexer's choices, by row
	Chosen               int
}

// noisy chooses the sequences that the noise floor is measured on: a quarter.
func noisy(seq int) bool { return seq%4 == 0 }

// lockstep runs both models layer by layer over some sequences, numbered from
// first on, and leaves the states after model.norm in the sides. The result's
// layer reads its own states and the source's in one pass, stacked, and the
// source's layer its states and, for some sequences, the same rounded to BF16
// after every layer, as engines keep them: each weight is read once. Both models
// run at the same time, so that one reads while the other computes. The pass
// begins where from says, if that is given, and calls save after each layer.
func lockstep(ctx context.Context, src, res *side, seqs [][]int, first int, sums []layerSums, from *resumed, save func(layer int, x, y []float32, a, b []runtime.Span) error, o *Options) error {
	var ids, again []int
	var a, b, rounded []runtime.Span
	for i, s := range seqs {
		ids = append(ids, s...)
		a = append(a, runtime.Span{N: len(s)})
		if noisy(first + i) {
			again = append(again, s...)
			rounded = append(rounded, runtime.Span{N: len(s)})
		}
	}
	b = append(slices.Clone(a), a...)
	a = append(a, rounded...)
	rows := len(ids)
	x, err := src.m.Embed(slices.Concat(ids, again))
	if err != nil {
		return err
	}
	y, err := res.m.Embed(ids)
	if err != nil {
		return err
	}
	n := len(y)
	y = append(y, x[:n]...)
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
				Keys: func(_, _ int, k []int32) { otherKeys = append(otherKeys, k) },
			})
			if err != nil {
				return res.named(err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		sums[l].add(x[:n], y[:n], y[n:], own, other)
		sums[l].addKeys(seqs, keys, otherKeys)
		copy(y[n:], x[:n])
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

// add takes the states after a layer: the source's, the result's, and the
// result's layer on the source's state.
func (s *layerSums) add(x, inherited, own []float32, a, b [][]int32) {
	for i, v := range x {
		d, e, w := float64(inherited[i])-float64(v), float64(own[i])-float64(v), float64(v)
		s.Inherited += d * d
		s.Own += e * e
		s.Size += w * w
	}
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

// addKeys takes the keys that an indexer chose for each row: the source's, and
// the result's on its own states and then on the source's. Rows that attend to
// all tokens before them had no choice.
func (s *layerSums) addKeys(seqs [][]int, a, b [][]int32) {
	if len(b) != 2*len(a) {
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
				s.OwnKeys += jaccard(a[row], b[len(a)+row])
				s.Chosen++
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
	out := Layer{Layer: l, Error: root(s.Inherited, s.Size), Own: root(s.Own, s.Size), RouterSame: 1, KeysSame: 1, KeysOwn: 1}
	if s.Routed > 0 {
		out.RouterSame, out.RouterFlip = s.Same/float64(s.Routed), s.Flips/float64(s.Routed)
	}
	if s.Chosen > 0 {
		out.KeysSame, out.KeysOwn = s.Keys/float64(s.Chosen), s.OwnKeys/float64(s.Chosen)
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
