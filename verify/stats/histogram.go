package stats

import "math"

// Bin is one bar of a histogram: values v with Lo ≤ v < Hi.
type Bin struct {
	Lo    float64 `json:"lo"`
	Hi    float64 `json:"hi"`
	Count int     `json:"count"`
}

// binWidth is that of a histogram's bars in decades, binFloor the log10 of the
// KL that everything below counts as: float noise.
const binWidth, binFloor = 0.25, -9.0

// Histogram returns the histogram of log10 of KL values (nats per token), bars a
// quarter of a decade wide, and how many values are NaN or infinite and in no
// bar. Everything below 1e-9 is in the first bar.
func Histogram(kl []float64) (bins []Bin, infinite int) {
	counts := map[int]int{}
	first, last := math.MaxInt, math.MinInt
	for _, v := range kl {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			infinite++
			continue
		}
		k := int(math.Floor(max(math.Log10(max(v, 1e-300)), binFloor) / binWidth))
		counts[k]++
		first, last = min(first, k), max(last, k)
	}
	bins = []Bin{}
	for k := first; k <= last && len(counts) > 0; k++ {
		bins = append(bins, Bin{Lo: float64(k) * binWidth, Hi: float64(k+1) * binWidth, Count: counts[k]})
	}
	return bins, infinite
}
