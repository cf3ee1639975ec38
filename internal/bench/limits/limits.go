package limits

import (
	"slices"
	"sync"
	"time"
)

// Limit is one measured rate.
type Limit struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"` // GB/s or GMAC/s
	Threads int     `json:"threads"`
	Rate    float64 `json:"rate"`
}

// Limits are the limits of a run.
type Limits []Limit

// Rate returns the rate of a name, 0 if it was not measured.
func (l Limits) Rate(name string) float64 {
	for _, x := range l {
		if x.Name == name {
			return x.Rate
		}
	}
	return 0
}

// runs is how often a limit is measured.
const runs = 5

// Median calls fn n times, at least once, and returns the median of what it
// returns.
func Median(n int, fn func() (float64, error)) (float64, error) {
	v := make([]float64, max(n, 1))
	for i := range v {
		x, err := fn()
		if err != nil {
			return 0, err
		}
		v[i] = x
	}
	return MedianOf(v), nil
}

// MedianOf is the middle value, the mean of the two in the middle for an even
// number, 0 for none.
func MedianOf(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// Timed returns units per nanosecond (10^9 a second) of fn, which says how many
// units it did.
func Timed(fn func() float64) float64 {
	start := time.Now()
	n := fn()
	return n / float64(time.Since(start).Nanoseconds())
}

// measure is the median rate of fn, which each of the threads runs.
func measure(name, unit string, threads int, fn func(thread int) float64) Limit {
	once := turn(threads, fn)
	r, _ := Median(runs, func() (float64, error) { return once(), nil })
	return Limit{name, unit, threads, r}
}

func onAll(threads int, fn func(thread int) float64) (sum float64) {
	done := make([]float64, threads)
	var wg sync.WaitGroup
	for t := range threads {
		wg.Go(func() { done[t] = fn(t) })
	}
	wg.Wait()
	for _, d := range done {
		sum += d
	}
	return sum
}
