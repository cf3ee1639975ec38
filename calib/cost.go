package calib

import (
	"time"

	"github.com/glmconv/glmconv/calib/learn"
	"github.com/glmconv/glmconv/glm"
	"github.com/glmconv/glmconv/quant"
	"github.com/glmconv/glmconv/quant/numeric"
	"github.com/glmconv/glmconv/runtime/kernel"
)

// Cost is what learning codes takes.
type Cost struct {
	Work    float64 // floating-point operations
	Memory  int64   // bytes, at least
	Whole   int64   // bytes with which no moments are in files
	Scratch int64   // bytes on disk, at most: codes, scales, states of both models and their inputs in a layer, moments
}

// passes is how often a layer's tokens go through a projection while it is
// learnt: both models, and the served one again for each stage before.
const passes = 5

// CostOf estimates what learning codes for a plan from sequences of token ids
// takes: forward passes, moments, factors, and nine times rows × columns² for
// rounding and coordinate descent.
func CostOf(p *quant.Plan, sequences [][]int) Cost {
	tokens := 0
	for _, q := range sequences {
		tokens += len(q)
	}
	least, moments := needs(p, longestOf(sequences))
	c := Cost{Memory: least, Whole: least, Scratch: 4 * 4 * int64(tokens) * int64(p.Config.HiddenSize)}
	inputs, files := map[int]int64{}, int64(0)
	for i := range p.Items {
		it := &p.Items[i]
		t := it.Weight.Tensor
		if t.Param != "weight" || !t.Role.IsLinear() || it.Action == quant.Drop {
			continue
		}
		r, k := it.Weight.Dims()
		rows, cols, n := float64(r), float64(k), float64(tokens)
		if t.Role.IsExpert() && p.Config.Experts > 0 {
			n *= float64(p.Config.ExpertsPerToken) / float64(p.Config.Experts)
		}
		c.Work += 2 * passes * n * rows * cols
		if it.Action != quant.Quantize || !p.Learnable(it) || t.Role == glm.AttnKVB {
			continue
		}
		c.Work += 9 * rows * cols * cols
		if whole := least - moments + wholeBytes(p.Config, it); whole > least {
			c.Whole, files = max(c.Whole, whole), max(files, learn.FileBytes(k))
		}
		if shows(t.Role) && !t.Role.IsExpert() { // all of the float model's, one role at a time of the served one's (counted in full)
			inputs[t.Layer] += int64(k)
		}
		if shows(t.Role) || t.Role == glm.SharedGate {
			if t.Role == glm.ExpertDown {
				n += float64(tokens) / every
			}
			c.Work += 3*n*cols*cols + 4./3*cols*cols*cols
		}
		q := it.Weight.Quant
		sr, sc := q.ScaleShape(r, k)
		c.Scratch += int64(r)*int64(k)*int64(q.Bits)/8 + 4*int64(sr)*int64(sc)
	}
	widest := int64(0)
	for _, n := range inputs {
		widest = max(widest, n)
	}
	c.Scratch += 2*4*int64(tokens)*widest + files
	return c
}

// Rate measures the machine's floating-point operations a second in products of
// the kind that learning makes.
func Rate(workers int) float64 {
	const n = 256
	w := kernel.NewWorkers(workers)
	x, y := make([]float32, n*n), make([]float32, n*n)
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	data := numeric.AppendF32(nil, x)
	best := 0.0
	for range 5 {
		begin := time.Now()
		kernel.Float(y, n, x, n, kernel.F32, data, n, n, w)
		best = max(best, 2*n*n*n/max(time.Since(begin).Seconds(), 1e-6))
	}
	return best
}
