package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Workers runs loops over independent outputs on a number of goroutines. The
// zero value and nil run everything on the caller's goroutine. What a loop
// computes never depends on the number.
type Workers struct{ N int }

// NewWorkers returns n workers; n below 1 asks for one for each CPU that Go may use.
func NewWorkers(n int) *Workers {
	if n < 1 {
		n = runtime.GOMAXPROCS(0)
	}
	return &Workers{N: n}
}

// minWork is the number of multiplications below which a second goroutine
// costs more than it brings.
const minWork = 1 << 16

// Each calls fn for blocks [lo, hi) that cover 0 … n−1, in any order and at the
// same time. Blocks start at multiples of align. work is the cost of one index
// in multiplications.
func (w *Workers) Each(n, align, work int, fn func(lo, hi int)) {
	workers := 1
	if w != nil {
		workers = max(1, min(w.N, n*max(work, 1)/minWork))
	}
	if workers == 1 || n <= align {
		if n > 0 {
			fn(0, n)
		}
		return
	}
	// Some blocks per worker even out cores of different speed.
	step := (n + 16*workers - 1) / (16 * workers)
	step = (step + align - 1) / align * align
	// Each worker has a run of blocks, so that what it reads next follows what it
	// read last; one that is done helps the others.
	blocks := (n + step - 1) / step
	share := (blocks + workers - 1) / workers
	next := make([]atomic.Int64, workers)
	run := func(self int) {
		for v := range workers {
			w := (self + v) % workers
			end := min((w+1)*share, blocks)
			for {
				b := w*share + int(next[w].Add(1)) - 1
				if b >= end {
					break
				}
				fn(b*step, min((b+1)*step, n))
			}
		}
	}
	var wg sync.WaitGroup
	for i := range workers - 1 {
		wg.Go(func() { run(i + 1) })
	}
	run(0)
	wg.Wait()
}
