package verify

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/fold"
)

// Tools that smooth (SmoothQuant, AWQ) divide the gains of a norm by any factors,
// one a channel, and multiply the columns of the weights that read it; rows of v and
// up and columns of o and down likewise. Gains are stored as they are, so that their
// ratio shows each factor to the rounding of a gain; the columns of every reader
// show it again, each by the slope of its values on the source's. Where most readers
// follow a norm, there was a fold: readers and channels that do not are faults.

const (
	// smoothedLimit is how far from the source, relative to it, a tensor that is not
	// quantized may be under a fold: it and the factor were rounded once each.
	smoothedLimit = 0.006
	// gainError is the standard error of a factor by two gains in BF16.
	gainError = 0.0016
	// offBy is from how far, in the logarithm, a channel is off its fold.
	offBy = 0.02
	// exactBy is how near a power of two a factor is one.
	exactBy = 0.005
	// probes is of how many sites behind no norm rows are looked at first.
	probes = 4
)

// smoothing are folds by any factors that were found in a result.
type smoothing struct {
	factors fold.Factors
	sites   int
	failed  []Failed
	limits  dict[float64] // how far tensors that are not quantized may be, by name
}

// smoother looks for them.
type smoother struct {
	p         *pair
	producers map[string]bool // tensors of which rows may be divided

	mu  sync.Mutex // guards what follows
	out *smoothing
	by  map[string][]float64 // factors of columns, by tensor
}

// smoothed finds folds by any factors; nil: there are none. always looks at every
// site, else sites behind no norm are looked at if a few of them show a fold.
func (p *pair) smoothed(ctx context.Context, cfg *glm.Config, always bool) (*smoothing, error) {
	s := &smoother{p: p, producers: map[string]bool{}, by: map[string][]float64{}, out: &smoothing{factors: fold.Factors{}, limits: dict[float64]{}}}
	layers := make([][]fold.Site, cfg.Layers+cfg.MTPLayers)
	var rows []fold.Site
	for _, site := range fold.Sites(cfg) {
		layers[site.Layer] = append(layers[site.Layer], site)
		if site.Kind != fold.Norm {
			s.producers[site.Producers[0].Tensor.Name] = true
			rows = append(rows, site)
		}
	}
	if !always {
		n := min(probes, len(rows))
		for i := range n {
			if err := s.rows(&rows[(2*i+1)*len(rows)/(2*n)]); err != nil {
				return nil, err
			}
		}
		if s.out.sites == 0 {
			return nil, nil
		}
		s.out = &smoothing{factors: fold.Factors{}, limits: dict[float64]{}}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, list := range layers {
		g.Go(func() error {
			for i := range list {
				look := s.rows
				if list[i].Kind == fold.Norm {
					look = s.norm
				}
				if err := look(&list[i]); err != nil || ctx.Err() != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil || s.out.sites == 0 {
		return nil, err
	}
	slices.SortFunc(s.out.failed, func(a, b Failed) int { return compareFailed(a, b) })
	return s.out, nil
}

// norm looks at a norm and the weights that read it.
func (s *smoother) norm(site *fold.Site) error {
	a, b, ok := s.p.gainsOf(site)
	if !ok || slices.Equal(a, b) {
		return nil
	}
	guess := make([]float64, site.Channels)
	for c := range guess {
		if guess[c] = 1; a[c] != 0 && b[c] != 0 && (a[c] > 0) == (b[c] > 0) {
			guess[c] = float64(a[c]) / float64(b[c])
		}
	}
	var list []*slopes
	for i := range site.Consumers {
		x, err := s.columns(&site.Consumers[i], guess)
		if err != nil {
			return err
		}
		if x != nil {
			x.center()
			list = append(list, x)
		}
	}
	if !followed(list, guess) {
		return nil
	}
	readers := list[:0:0]
	for _, x := range list {
		if x.follows(guess) == stays {
			s.fail(x.name, fmt.Sprintf("does not take part in a fold: the gains of %s are divided by factors, one a channel, and the columns of its other readers multiplied by them", site.Name))
			continue
		}
		readers = append(readers, x)
	}
	t := make([]float64, site.Channels)
	for c := range t {
		t[c] = s.channel(site, readers, c, guess[c], a[c], b[c])
	}
	s.put(site, t)
	return nil
}

// channel returns the factor of a channel of a norm, and names what is off it.
func (s *smoother) channel(site *fold.Site, readers []*slopes, c int, guess float64, a, b float32) float64 {
	var off []*slopes
	sum, weight := 0.0, 1/(gainError*gainError)
	known := 0
	for _, x := range readers {
		if math.IsInf(x.err[c], 1) {
			continue
		}
		if known++; x.off(c) {
			off = append(off, x)
			continue
		}
		w := 1 / max(x.err[c]*x.err[c], 1e-10)
		sum, weight = sum+w*x.log[c], weight+w
	}
	switch {
	case (a == 0) != (b == 0) || (a > 0) != (b > 0):
		s.fail(site.Name, fmt.Sprintf("channel %d: the gain is %g in the source and %g here, which no fold makes of it", c, a, b))
	case len(off) > 0 && 2*len(off) > known:
		s.fail(site.Name, fmt.Sprintf("channel %d: the gain is divided by %.4g, and the columns that read it are multiplied by %.4g", c, guess, guess*math.Exp(off[0].log[c])))
		return guess * math.Exp(off[0].log[c])
	default:
		for _, x := range off {
			s.fail(x.name, fmt.Sprintf("column %d is multiplied by %.4g, and the gain of %s that it reads is divided by %.4g", c, guess*math.Exp(x.log[c]), site.Name, guess))
		}
	}
	mean := sum / weight
	if f, _ := math.Frexp(guess); f == 0.5 && math.Abs(mean) < exactBy {
		return guess // a power of two, or no fold
	}
	return guess * math.Exp(mean)
}

// rows looks at rows of v or up and the columns of what reads them.
func (s *smoother) rows(site *fold.Site) error {
	part := &site.Producers[0]
	from, err := s.p.sums(part.Tensor, nil, s.columnsOf(part.Tensor.Name))
	if err != nil || from == nil {
		return err
	}
	to, err := s.p.sums(site.Consumers[0].Tensor, nil, nil)
	if err != nil || to == nil {
		return err
	}
	rows := newSlopes(part.Tensor.Name, from.rows, from.least, part.Channel, site.Channels)
	cols := newSlopes(site.Consumers[0].Tensor.Name, to.cols, to.least, site.Consumers[0].Channel, site.Channels)
	guess := make([]float64, site.Channels)
	product := &slopes{name: cols.name, log: make([]float64, site.Channels), err: make([]float64, site.Channels)}
	for c := range guess {
		guess[c] = math.Exp(-rows.log[c])
		product.log[c], product.err[c] = rows.log[c]+cols.log[c], math.Hypot(rows.err[c], cols.err[c])
		if math.IsInf(rows.err[c], 1) {
			guess[c] = 1
		}
	}
	product.spreadOf()
	if !followed([]*slopes{product}, guess) {
		return nil
	}
	t, errs := make([]float64, site.Channels), make([]float64, site.Channels)
	for c := range t {
		if product.off(c) {
			s.fail(part.Tensor.Name, fmt.Sprintf("the rows of channel %d are divided by %.4g, and the columns of %s that read them are multiplied by %.4g", c, guess[c], cols.name, math.Exp(cols.log[c])))
		}
		t[c], errs[c] = mean(-rows.log[c], rows.err[c], cols.log[c], cols.err[c])
	}
	if len(site.Producers) > 1 {
		if err := s.bias(&site.Producers[1], t, errs); err != nil {
			return err
		}
	}
	for c := range t {
		t[c] = math.Exp(t[c])
	}
	if snap(t, errs); slices.IndexFunc(t, func(v float64) bool { return v != 1 }) >= 0 {
		s.put(site, t)
	}
	return nil
}

// bias holds the bias of value rows to the logarithms of factors, and takes the
// factors that it shows into account.
func (s *smoother) bias(part *fold.Part, t, errs []float64) error {
	it, ok := s.p.entries[part.Tensor.Name]
	info, there := s.p.b.Info(part.Tensor.Name)
	n := int(part.Tensor.Shape[0])
	if !ok || !there {
		return nil
	}
	a, err := floatsOf(s.p.a, it.Source, it.Offset, n)
	if err != nil {
		return err
	}
	b, err := floatsOf(s.p.b, info, 0, n)
	if err != nil {
		return err
	}
	for i, v := range a {
		c := part.Channel(i)
		by := math.Log(float64(v) / float64(b[i]))
		switch {
		case v == 0 && b[i] == 0:
		case math.Abs(by-t[c]) <= max(offBy, 6*errs[c]): // false for NaN
			t[c], errs[c] = mean(t[c], errs[c], by, gainError)
		default:
			s.fail(part.Tensor.Name, fmt.Sprintf("channel %d is %.4g, %.4g in the source, and the rows of its weight are divided by %.4g", i, b[i], v, math.Exp(t[c])))
		}
	}
	return nil
}

// columns are the slopes of a reader's columns on the source's times the factors of
// a norm; nil where the result does not have it.
func (s *smoother) columns(part *fold.Part, by []float64) (*slopes, error) {
	cols := make([]float64, int(part.Tensor.Shape[1]))
	for c := range cols {
		cols[c] = by[part.Channel(c)]
	}
	var rows []float64
	if s.producers[part.Tensor.Name] {
		first, err := s.p.sums(part.Tensor, nil, cols)
		if err != nil || first == nil {
			return nil, err
		}
		rows = make([]float64, len(first.rows))
		for r, x := range first.rows {
			log, _ := x.slope()
			rows[r] = math.Exp(log)
		}
	}
	all, err := s.p.sums(part.Tensor, rows, cols)
	if err != nil || all == nil {
		return nil, err
	}
	return newSlopes(part.Tensor.Name, all.cols, all.least, part.Channel, len(by)), nil
}

func (s *smoother) columnsOf(name string) []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[name]
}

func (s *smoother) fail(where, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.failed = append(s.out.failed, Failed{"exact", where, detail})
}

// put notes the fold of a site.
func (s *smoother) put(site *fold.Site, t []float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.sites++
	s.out.factors.Put(site, t)
	for _, list := range [][]fold.Part{site.Producers, site.Consumers} {
		for _, p := range list {
			s.out.limits[p.Tensor.Name] = smoothedLimit
			s.by[p.Tensor.Name] = s.out.factors[p.Tensor.Name].Cols
		}
	}
}
