package calib

import (
	"context"
	"math"

	"github.com/glmconv/glmconv/runtime"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// divergence is KL(p‖q) of two rows of logits that come in runs: sums of
// e^(x−top) as they are with the largest logit so far.
type divergence struct {
	top, sum   float64 // of p
	own        float64 // Σ e^(p−top)·(p−q)
	other, out float64 // of q: its largest, and its sum
}

func newDivergence() divergence { return divergence{top: math.Inf(-1), other: math.Inf(-1)} }

func (d *divergence) add(p, q []float32) {
	for _, v := range p {
		if x := float64(v); x > d.top {
			s := math.Exp(d.top - x)
			d.sum, d.own, d.top = d.sum*s, d.own*s, x
		}
	}
	for _, v := range q {
		if x := float64(v); x > d.other {
			d.out, d.other = d.out*math.Exp(d.other-x), x
		}
	}
	for i, v := range p {
		e := math.Exp(float64(v) - d.top)
		d.sum += e
		d.own += e * (float64(v) - float64(q[i]))
		d.out += math.Exp(float64(q[i]) - d.other)
	}
}

// value is the divergence in nats, never negative by rounding alone.
func (d *divergence) value() float64 {
	return max(0, d.own/d.sum-(d.top+math.Log(d.sum))+(d.other+math.Log(d.out)))
}

// klRun is how many entries of the vocabulary are read at a time.
const klRun = 8 * runtime.LogitRun

// meanKL is the mean divergence in nats per token of final states [rows, H] of a
// model from those of others that share its head.
func meanKL(ctx context.Context, m *runtime.Model, x []float32, others [][]float32, w *kernel.Workers) ([]float64, error) {
	rows := len(x) / m.Config().HiddenSize
	readers := []*runtime.LogitReader{m.LogitReader(x)}
	acc := make([][]divergence, len(others))
	for i, y := range others {
		readers, acc[i] = append(readers, m.LogitReader(y)), make([]divergence, rows)
		for r := range acc[i] {
			acc[i][r] = newDivergence()
		}
	}
	z, y := make([]float32, rows*klRun), make([]float32, rows*klRun)
	for {
		n, err := readers[0].Next(ctx, klRun, z)
		if err != nil || n == 0 {
			return means(acc), err
		}
		for i := range others {
			if _, err := readers[i+1].Next(ctx, klRun, y); err != nil {
				return nil, err
			}
			w.Each(rows, 1, 8*n, func(lo, hi int) {
				for r := lo; r < hi; r++ {
					acc[i][r].add(z[r*n:][:n], y[r*n:][:n])
				}
			})
		}
	}
}

func means(acc [][]divergence) []float64 {
	out := make([]float64, len(acc))
	for i, rows := range acc {
		for r := range rows {
			out[i] += rows[r].value()
		}
		out[i] /= float64(max(len(rows), 1))
	}
	return out
}
