package diff

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/fold"
	"github.com/glmconv/glmconv/quant/layout"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/safetensors"
)

// chunk is how many bytes of a tensor or file are compared at a time.
const chunk = 1 << 20

// Options say how to compare. The zero value is the default.
type Options struct {
	Workers  int  // goroutines that read; 0: one a core
	NoValues bool // names, types, shapes and bytes only, no error figures
	// Rounder, if given, returns how a module's weight of A should have been
	// rounded, or nil: modules then tell how far B is from that.
	Rounder func(w Weight) Rounder
	// Grid looks at how B's codes and scales are used where a quantized weight
	// has no Rounder: Module.Grid.
	Grid bool
	// Only, if given, chooses the modules of which the weights are compared;
	// nothing else is then.
	Only func(module string) bool
	// Finite looks for NaN and infinity in the floating-point tensors that both
	// store alike: Report.NonFinite.
	Finite bool
	// Folds are powers of two that moved between tensors when B was made: A is
	// compared as if it had been folded.
	Folds *fold.Set
	// Factors are the same for folds by any factors, with each value of A rounded
	// once more; not both.
	Factors fold.Factors
	// Open, if given, opens a checkpoint in place of safetensors.OpenDir: for who
	// has it open already.
	Open func(dir string) (*safetensors.Checkpoint, error)
	// Part and Parts choose whose values are read: those of part Part (from 1) of
	// Parts, cut by the files of A; 0 or 1: all. Join puts the reports together.
	Part, Parts int
	// Progress receives the bytes compared so far, the bytes to compare and
	// "weights". It may be nil; it is called from several goroutines, one at a
	// time.
	Progress func(done, total int64, detail string)
}

// Run compares the checkpoints in dirA and dirB. The error says that one of
// them cannot be read; being different is none.
func Run(ctx context.Context, dirA, dirB string, opts Options) (*Report, error) {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if opts.Open == nil {
		opts.Open = safetensors.OpenDir
	}
	a, err := open(dirA, opts.Open)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := open(dirB, opts.Open)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := a.folded(opts.Folds, opts.Factors); err != nil {
		return nil, err
	}
	d := &differ{a: a, b: b, opts: opts, r: &Report{Schema: Schema, DirA: dirA, DirB: dirB}, touched: map[string]bool{}}
	d.own = ownModules(a, opts.Part, opts.Parts)
	if err := d.tensors(ctx); err != nil {
		return nil, err
	}
	if err := d.weights(ctx); err != nil {
		return nil, err
	}
	if opts.Only == nil {
		if err := d.files(ctx); err != nil {
			return nil, err
		}
	}
	d.r.Bytes = a.BytesRead() + b.BytesRead() + d.sides
	d.r.finish()
	return d.r, nil
}

// Weight is a quantised weight of B and what it was made of.
type Weight struct {
	Module string
	Source safetensors.DType // of A
	Stored layout.Stored
}

// Rounder rounds weights; *quant.Rounder is one.
type Rounder interface {
	Align() int // rows that pieces start at a multiple of; 0: one piece
	Round(src []float32, rows int, x *numeric.Scratch) (*numeric.Matrix, numeric.Stats, error)
	RoundBytes(src []byte, d numeric.Decoder, rows int, x *numeric.Scratch) (*numeric.Matrix, numeric.Stats, error)
}

type differ struct {
	a, b    *checkpoint
	opts    Options
	r       *Report
	touched map[string]bool // modules of which a tensor differs
	own     map[string]bool // modules whose values this part compares; nil: all

	mu          sync.Mutex
	done, total int64
	sides       int64 // bytes of files beside the weights
}

// progress counts bytes.
func (d *differ) progress(n int64) {
	d.mu.Lock()
	d.done += n
	if d.opts.Progress != nil {
		d.opts.Progress(d.done, d.total, "weights")
	}
	d.mu.Unlock()
}

func side(t safetensors.Info) *Side { return &Side{t.DType.String(), t.Shape, t.File} }

// match sorts the tensors of both sides by name, type and shape, and returns
// those of which all three are the same: bytes decide.
func (d *differ) match() (alike []safetensors.Info) {
	parts := map[string][]string{}
	for m, e := range d.a.stacked {
		parts[e.Source.Name] = append(parts[e.Source.Name], m)
	}
	for _, t := range d.a.Tensors() {
		u, ok := d.b.Info(t.Name)
		switch {
		case !ok:
			d.r.Removed = append(d.r.Removed, Tensor{Name: t.Name, A: side(t), Parts: parts[t.Name]})
		case !slices.Equal(t.Shape, u.Shape):
			d.r.Reshaped = append(d.r.Reshaped, Tensor{Name: t.Name, A: side(t), B: side(u)})
		case t.DType != u.DType:
			d.r.Retyped = append(d.r.Retyped, Tensor{Name: t.Name, A: side(t), B: side(u)})
		default:
			if !d.mine(t.Name) {
				continue
			}
			alike = append(alike, t)
			d.total += t.Size + u.Size
			continue
		}
		d.touch(t.Name)
	}
	for _, u := range d.b.Tensors() {
		if _, ok := d.a.Info(u.Name); !ok {
			d.r.Added = append(d.r.Added, Tensor{Name: u.Name, B: side(u)})
			d.touch(u.Name)
		}
	}
	return alike
}

// tensors compares tensor by tensor.
func (d *differ) tensors(ctx context.Context) error {
	equal := d.match()
	if d.opts.Only != nil {
		return nil
	}
	same, odd := make([]bool, len(equal)), make([]bool, len(equal))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(d.opts.Workers)
	for i := range d.r.Retyped {
		x := &d.r.Retyped[i]
		if d.opts.NoValues || d.paired(x.Name) || !d.mine(x.Name) {
			continue // nobody asks, or weights() tells
		}
		g.Go(func() (err error) {
			x.Same, err = d.sameValues(ctx, x.Name)
			return err
		})
	}
	for i := range d.r.Removed {
		x := &d.r.Removed[i]
		if of := d.copyOf(x.Name); of != "" && d.mine(x.Name) {
			g.Go(func() (err error) {
				x.CopyOf, err = d.same(ctx, x.Name, of)
				return err
			})
		}
	}
	for i, t := range equal {
		g.Go(func() (err error) {
			same[i], odd[i], err = d.sameBytes(ctx, t)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, t := range equal {
		if odd[i] {
			d.r.NonFinite = append(d.r.NonFinite, t.Name)
		}
		u, _ := d.b.Info(t.Name)
		if same[i] {
			d.r.Same++
			n := t.Elements()
			d.r.Agreed = agree(d.r.Agreed, Agreed{u.File, 1, n})
			if l := LayerOf(t.Name); l != "" && n >= LeastOfWeight {
				d.r.Layers = agree(d.r.Layers, Agreed{l, 1, n})
			}
			continue
		}
		d.r.Changed = append(d.r.Changed, Tensor{Name: t.Name, A: side(t), B: side(u)})
		d.touch(t.Name)
	}
	return nil
}

func (d *differ) touch(name string) {
	mod, _ := glm.ModuleOf(name)
	d.touched[mod] = true
}

// sameBytes compares a tensor that both sides store alike, and tells whether it
// has values that are not finite as far as it read.
func (d *differ) sameBytes(ctx context.Context, t safetensors.Info) (same, odd bool, err error) {
	for _, c := range []*checkpoint{d.a, d.b} {
		if c.fold != nil && c.fold.Codes(t) { // what they stand for is compared
			d.progress(2 * t.Size)
			return false, false, nil
		}
	}
	u, _ := d.b.Info(t.Name)
	n := min(chunk, t.Size)
	p, q := make([]byte, n), make([]byte, n)
	for off := int64(0); off < t.Size; off += n {
		if err := ctx.Err(); err != nil {
			return false, odd, err
		}
		n := min(n, t.Size-off)
		if err := d.a.ReadAt(t, off, p[:n]); err != nil {
			return false, odd, err
		}
		if err := d.b.ReadAt(u, off, q[:n]); err != nil {
			return false, odd, err
		}
		odd = odd || d.opts.Finite && layout.NonFinite(q[:n], t.DType)
		if !bytes.Equal(p[:n], q[:n]) {
			d.progress(2 * (t.Size - off))
			return false, odd, nil
		}
		d.progress(2 * n)
	}
	return true, odd, nil
}

// paired tells whether a tensor is a weight of both sides, which weights compares.
func (d *differ) paired(name string) bool {
	m, param := glm.ModuleOf(name)
	return param == "weight" && d.a.modules[m] && d.b.modules[m]
}

// sameValues tells whether a tensor of two types of float holds the same
// numbers, bit for bit after widening.
func (d *differ) sameValues(ctx context.Context, name string) (bool, error) {
	a, _ := d.a.Info(name)
	b, _ := d.b.Info(name)
	for _, t := range []safetensors.Info{a, b} {
		if _, err := layout.DecoderOf(t.DType); err != nil {
			return false, nil //nolint:nilerr // not a float: other types are other values
		}
	}
	x, y := d.a.floats(a, 0, []int64{a.Elements()}, false), d.b.floats(b, 0, []int64{b.Elements()}, false)
	n := min(x.rows, tile)
	p, q := make([]float32, n), make([]float32, n)
	buf := pieces.Get().(*piece)
	defer pieces.Put(buf)
	for lo := 0; lo < x.rows; lo += n {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		hi := min(lo+n, x.rows)
		if err := errors.Join(x.read(lo, hi, p[:hi-lo], buf), y.read(lo, hi, q[:hi-lo], buf)); err != nil {
			return false, err
		}
		for i := range hi - lo {
			if math.Float32bits(p[i]) != math.Float32bits(q[i]) {
				return false, nil
			}
		}
	}
	return true, nil
}

// unlike lists the modules that are not stored alike, of those that are asked
// about.
func (d *differ) unlike() (names []string) {
	for m := range d.a.modules {
		_, as := d.a.stacked[m]
		_, bs := d.b.stacked[m]
		if d.opts.Only != nil && !d.opts.Only(m) {
			continue
		}
		if d.b.modules[m] && d.ownsModule(m) && (d.touched[m] || as != bs || as && d.stackTouched(m)) {
			names = append(names, m)
		}
	}
	sort.Strings(names)
	return names
}

// weights compares the values of every module that is not stored alike.
func (d *differ) weights(ctx context.Context) error {
	if d.opts.NoValues {
		return nil
	}
	names := d.unlike()
	type pair struct{ a, b *weight }
	pairs := make([]pair, len(names))
	out := make([]Module, len(names))
	for i, m := range names {
		a, errA := d.a.weight(m)
		b, errB := d.b.weight(m)
		if err := errors.Join(errA, errB); err != nil {
			out[i] = Module{Name: m, Why: strings.ReplaceAll(err.Error(), "\n", "; ")}
			continue
		}
		pairs[i] = pair{a, b}
		d.total += a.bytes + b.bytes
	}
	order := make([]int, 0, len(pairs)) // of A's files, so that a disk reads on
	for i, p := range pairs {
		if p.a != nil {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := pairs[i].a.parts[0], pairs[j].a.parts[0]
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Offset, b.Offset))
	})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(d.opts.Workers)
	for _, i := range order {
		p := pairs[i]
		g.Go(func() (err error) {
			var own Rounder
			if d.opts.Rounder != nil && p.b.stored.Quantized() {
				own = d.opts.Rounder(Weight{names[i], p.a.parts[0].DType, p.b.stored})
			}
			out[i], err = compare(ctx, names[i], p.a, p.b, own, d.opts.Grid, d.progress)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	d.r.Modules = out
	equal := map[string]bool{}
	for _, m := range out {
		equal[m.Name] = m.Why == "" && m.Relative == 0
	}
	for i := range d.r.Retyped {
		if x := &d.r.Retyped[i]; d.paired(x.Name) {
			m, _ := glm.ModuleOf(x.Name)
			x.Same = equal[m]
		}
	}
	return nil
}

// stackTouched tells whether the stacked tensor behind a module differs.
func (d *differ) stackTouched(module string) bool {
	source := d.a.stacked[module].Source.Name
	return slices.ContainsFunc(d.r.Changed, func(t Tensor) bool { return t.Name == source }) ||
		slices.ContainsFunc(d.r.Retyped, func(t Tensor) bool { return t.Name == source })
}
