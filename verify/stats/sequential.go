package stats

import "math"

// SequentialAlpha is the probability with which a bound of Sequential may ever
// be wrong, however often it is looked at.
const SequentialAlpha = 0.001

// sequentialBlocks is the number of sequences for which the bounds are tightest.
const sequentialBlocks = 8

// MinSequences is the number of sequences below which Sequential gives no
// bounds: their spread is hardly known.
const MinSequences = 8

// Sequential returns bounds of the mean KL that hold at every number of
// sequences at the same time, each with probability 99.9 %, so that a test may
// look after every batch and stop when they tell enough. They are asymptotic
// confidence sequences (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas:
// Time-uniform central limit theory and asymptotic confidence sequences,
// arXiv 2103.06476), one-sided, with a sequence of tokens as the unit, because
// its tokens are correlated. The spread is taken at its own 99 % upper bound:
// the theorem is about many blocks, and here there are few. Below MinSequences they are 0 and infinite.
func Sequential(rows []Row) (lower, upper float64) {
	var sum, n []float64
	index := map[int]int{}
	var total float64
	for _, r := range rows {
		i, ok := index[r.Seq]
		if !ok {
			i = len(sum)
			index[r.Seq] = i
			sum, n = append(sum, 0), append(n, 0)
		}
		sum[i] += r.KL
		n[i]++
		total += r.KL
	}
	t := float64(len(sum))
	if len(sum) < MinSequences {
		return 0, math.Inf(1)
	}
	// Of unequal sequences the mean over tokens is a ratio; its deviations are
	// those of sum − mean·n, in units of the mean length.
	mean, length := total/float64(len(rows)), float64(len(rows))/t
	var sq float64
	for i := range sum {
		d := (sum[i] - mean*n[i]) / length
		sq += d * d
	}
	w := math.Sqrt(sq/chiSquare1(t-1)) * boundary(t)
	if math.IsNaN(w) || math.IsInf(mean, 1) {
		return 0, math.Inf(1)
	}
	return max(mean-w, 0), mean + w
}

// boundary is how far the mean of t unit-variance blocks may stray: the
// one-sided Gaussian mixture boundary of that paper.
func boundary(t float64) float64 {
	l := -2 * math.Log(2*SequentialAlpha)
	rho2 := (l + math.Log(l) + 1) / sequentialBlocks
	v := t*rho2 + 1
	return math.Sqrt(2 * v / (t * t * rho2) * math.Log(1+math.Sqrt(v)/(2*SequentialAlpha)))
}

// chiSquare1 is the 1 % quantile of the chi-square distribution with k degrees
// of freedom (Wilson and Hilferty's approximation).
func chiSquare1(k float64) float64 {
	const z = -2.3263
	c := 2 / (9 * k)
	return k * math.Pow(1-c+z*math.Sqrt(c), 3)
}
