package endpoint

import (
	"context"
	"math"
	"slices"

	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/safetensors"
)

// model is a checkpoint whose weights are streamed.
type model struct {
	*runtime.Model
	memory int64
	close  func()
}

// openModel opens a folder; change, if given, alters what is read of it.
func openModel(dir string, threads int, memory int64, change *fault) (*model, error) {
	cfg, err := glm.LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	ckpt, err := safetensors.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	caches, err := runtime.ReadCaches(dir)
	if err != nil {
		_ = ckpt.Close()
		return nil, err
	}
	var src runtime.Source = ckpt
	if change != nil {
		if change.config != nil {
			own := *cfg
			change.config(&own)
			cfg = &own
		}
		src = &altered{ckpt, change}
	}
	p, err := runtime.NewStreaming(cfg, src, min(max(memory/64, 64<<10), 16<<20))
	if err != nil {
		_ = ckpt.Close()
		return nil, err
	}
	if change != nil && change.weightsOnly {
		p.WeightsOnly()
	}
	m, err := runtime.New(cfg, p, runtime.Options{Threads: threads, Caches: caches})
	if err != nil {
		_ = ckpt.Close()
		return nil, err
	}
	return &model{m, memory, func() { p.Stop(); _ = ckpt.Close() }}, nil
}

// states computes the states after model.norm [T, H] of each sequence, in
// batches that fit into memory. rounded is the same with the residual stream
// rounded to BF16 after every layer.
func (m *model) states(ctx context.Context, seqs [][]int, rounded bool) ([][]float32, error) {
	width := m.Config().HiddenSize
	room := max(1, int(m.memory/4/int64(4*width*10)))
	out := make([][]float32, 0, len(seqs))
	for len(seqs) > 0 {
		n, rows := 1, len(seqs[0])
		for n < len(seqs) && rows+len(seqs[n]) <= room {
			rows += len(seqs[n])
			n++
		}
		h, err := m.batch(ctx, seqs[:n], rounded)
		if err != nil {
			return nil, err
		}
		out = append(out, h...)
		seqs = seqs[n:]
	}
	return out, nil
}

func (m *model) batch(ctx context.Context, seqs [][]int, rounded bool) ([][]float32, error) {
	var ids []int
	spans := make([]runtime.Span, len(seqs))
	for i, s := range seqs {
		ids = append(ids, s...)
		spans[i].N = len(s)
	}
	x, err := m.Embed(ids)
	if err != nil {
		return nil, err
	}
	for l := range m.Layers() {
		for i := range spans {
			spans[i].Cache = new(runtime.LayerCache)
		}
		if err := m.Layer(ctx, l, x, spans, nil); err != nil {
			return nil, err
		}
		if rounded {
			for i, v := range x {
				x[i] = numeric.RoundBF16(v)
			}
		}
	}
	if x, err = m.FinalNorm(x); err != nil {
		return nil, err
	}
	out := make([][]float32, len(seqs))
	at, width := 0, m.Config().HiddenSize
	for i, s := range seqs {
		out[i] = x[at*width : (at+len(s))*width]
		at += len(s)
	}
	return out, nil
}

// row is what the runtime says of one place: the log-probabilities of the
// tokens asked for, and of its own most likely ones, best first.
type row struct {
	at  map[int]float64
	top []entry
}

type entry struct {
	id    int
	value float64
}

// rows reads the head over states h, [T, H] of one sequence. want are the ids
// asked for after each state; top is how many of its own are named.
func (m *model) rows(ctx context.Context, h []float32, want [][]int, top int) ([]row, error) {
	n := len(want)
	out := make([]row, n)
	if n == 0 {
		return out, nil
	}
	vocab := m.Config().VocabSize
	run := runtime.LogitRun * int(max(1, min(m.memory/16/int64(4*n*runtime.LogitRun), int64((vocab+runtime.LogitRun-1)/runtime.LogitRun))))
	z := make([]float32, n*run)
	norm := make([]logSum, n)
	order := make([][]int, n) // of want, rising
	for i, ids := range want {
		order[i] = slices.Clone(ids)
		slices.Sort(order[i])
		out[i].at = make(map[int]float64, len(ids))
	}
	r := m.LogitReader(h[:n*m.Config().HiddenSize])
	for lo := 0; lo < vocab; {
		w, err := r.Next(ctx, run, z)
		if err != nil {
			return nil, err
		}
		if w == 0 {
			break
		}
		for i := range out {
			part := z[i*w:][:w]
			norm[i].add(part)
			for len(order[i]) > 0 && order[i][0] < lo+w {
				id := order[i][0]
				order[i] = order[i][1:]
				out[i].at[id] = float64(part[id-lo])
			}
			if top > 0 {
				out[i].take(part, lo, top)
			}
		}
		lo += w
	}
	for i := range out {
		s := norm[i].value()
		for id := range out[i].at {
			out[i].at[id] -= s
		}
		for k := range out[i].top {
			out[i].top[k].value -= s
		}
	}
	return out, nil
}

// take keeps the largest logits, the lower id first among equals.
func (r *row) take(z []float32, lo, n int) {
	for i, v := range z {
		x := float64(v)
		if len(r.top) == n && !(x > r.top[n-1].value) {
			continue
		}
		at, _ := slices.BinarySearchFunc(r.top, x, func(e entry, x float64) int {
			if e.value >= x {
				return -1
			}
			return 1
		})
		r.top = slices.Insert(r.top, at, entry{lo + i, x})
		if len(r.top) > n {
			r.top = r.top[:n]
		}
	}
}

// logSum adds up Σ e^z without overflow.
type logSum struct {
	most, sum float64
	any       bool
}

func (s *logSum) add(z []float32) {
	most := float64(slices.Max(z))
	if !s.any {
		s.most, s.any = most, true
	} else if most > s.most {
		s.sum *= math.Exp(s.most - most)
		s.most = most
	}
	for _, v := range z {
		s.sum += math.Exp(float64(v) - s.most)
	}
}

func (s *logSum) value() float64 { return s.most + math.Log(s.sum) }
