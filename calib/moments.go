package calib

import (
	"math"
	"slices"

	"github.com/glmconv/glmconv/quant/numeric"
)

// samples is how many inputs of a projection are kept whole.
const samples = 512

// Moments are what is known of the inputs of one projection, by column.
type Moments struct {
	Count  int64     // tokens
	AbsMax []float32 // max |x|
	// Lo and Hi are the least and the largest value, 0 included; nil where the
	// statistics are of a version that did not gather them.
	Lo, Hi []float32

	sum2 []fixed     // Σ x²
	keys []uint64    // of the samples, rising
	rows [][]float32 // the samples
}

// Sample returns up to 512 inputs [rows, columns], rounded to BF16: of every
// projection but experts' gate and up.
func (m *Moments) Sample() []float32 { return slices.Concat(m.rows...) }

// fixed is a sum of squares in steps of 2^-48 (high·2^64 + low of them): adding is
// associative, so that parts in any cut give the sum of one run, bit for bit.
type fixed struct{ high, low uint64 }

// step is 1/2^-48.
const step = 1 << 48

func (f *fixed) add(o fixed) {
	low := f.low + o.low
	if low < f.low {
		f.high++
	}
	f.low = low
	f.high += o.high
}

// square returns x² rounded to a step; beyond 2^63 it saturates.
func square(x float32) fixed {
	v := float64(x) * float64(x)
	if !(v < 1<<63) {
		return fixed{1 << 46, 0}
	}
	whole, part := math.Modf(v)
	n := uint64(whole)
	f := fixed{n >> 16, n << 48}
	f.add(fixed{0, uint64(math.RoundToEven(part * step))})
	return f
}

// float returns the sum and what rounding it to float64 leaves.
func (f fixed) float() (value, rest float64) {
	value = math.Ldexp(float64(f.high), 16) + math.Ldexp(float64(f.low), -48)
	back := fixedOf(value)
	if back.high > f.high || back.high == f.high && back.low > f.low {
		low := back.low - f.low
		high := back.high - f.high
		if back.low < f.low {
			high--
		}
		return value, -(math.Ldexp(float64(high), 16) + math.Ldexp(float64(low), -48))
	}
	low := f.low - back.low
	high := f.high - back.high
	if f.low < back.low {
		high--
	}
	return value, math.Ldexp(float64(high), 16) + math.Ldexp(float64(low), -48)
}

// fixedOf is the fixed-point form of a float64 of at least 0, cut to a step.
func fixedOf(v float64) fixed {
	high := math.Floor(math.Ldexp(v, -16))
	return fixed{uint64(high), uint64(math.Ldexp(v-math.Ldexp(high, 16), 48))}
}

// sumOf is the sum that float split.
func sumOf(value, rest float64) fixed {
	f := fixedOf(value)
	if rest >= 0 {
		f.add(fixedOf(rest))
		return f
	}
	r := fixedOf(-rest)
	if f.low < r.low {
		f.high--
	}
	return fixed{f.high - r.high, f.low - r.low}
}

func newMoments(n int) *Moments {
	return &Moments{AbsMax: make([]float32, n), Lo: make([]float32, n), Hi: make([]float32, n), sum2: make([]fixed, n)}
}

// MeanSquare returns Σx²/count by column.
func (m *Moments) MeanSquare() []float64 {
	out := make([]float64, len(m.sum2))
	for i, f := range m.sum2 {
		v, _ := f.float()
		out[i] = v / float64(max(m.Count, 1))
	}
	return out
}

// add takes an input.
func (m *Moments) add(x []float32) {
	m.Count++
	for i, v := range x {
		m.sum2[i].add(square(v))
		m.Lo[i], m.Hi[i] = min(m.Lo[i], v), max(m.Hi[i], v)
		m.AbsMax[i] = max(m.AbsMax[i], v, -v)
	}
}

// sample keeps an input if its key is among the lowest: those stay, whatever came
// when.
func (m *Moments) sample(x []float32, key uint64) {
	at, _ := slices.BinarySearch(m.keys, key)
	if at >= samples {
		return
	}
	var row []float32
	if last := samples - 1; len(m.keys) > last {
		row = m.rows[last]
		m.keys, m.rows = m.keys[:last], m.rows[:last]
	} else {
		row = make([]float32, len(x))
	}
	for i, v := range x {
		row[i] = numeric.RoundBF16(v)
	}
	m.keys, m.rows = slices.Insert(m.keys, at, key), slices.Insert(m.rows, at, row)
}

// merge adds the moments of another part.
func (m *Moments) merge(o *Moments) {
	m.Count += o.Count
	n := len(m.sum2)
	for i := range n {
		m.sum2[i].add(o.sum2[i])
		m.AbsMax[i] = max(m.AbsMax[i], o.AbsMax[i])
	}
	if m.Lo == nil || o.Lo == nil {
		m.Lo, m.Hi = nil, nil
	}
	for i := range m.Lo {
		m.Lo[i], m.Hi[i] = min(m.Lo[i], o.Lo[i]), max(m.Hi[i], o.Hi[i])
	}
	for i, k := range o.keys {
		m.sample(o.rows[i], k)
	}
}

// keyOf hashes the place of a token: its sequence in the whole text and its
// position there (splitmix64).
func keyOf(sequence, position int) uint64 {
	z := uint64(sequence)<<32 + uint64(position) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
