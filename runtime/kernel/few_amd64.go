//go:build !purego

package kernel

// fewRowsOfBF16 is how many rows of weights a kernel for few tokens takes.
const fewRowsOfBF16 = 16

// few is Float with BF16 weights for fewer tokens than are worth a panel, with
// the sums of panels. It reports whether it could: there must be a kernel, and
// columns in 32s.
func (p *panelPath) few(y []float32, ldy int, x []float32, m int, w []byte, n, k int, workers *Workers) bool {
	if m < 1 || m > len(p.fewBF16) || n < fewRowsOfBF16 || k == 0 || k%32 != 0 {
		return false
	}
	_, _, _ = y[(m-1)*ldy+n-1], x[m*k-1], w[2*n*k-1]
	whole, run := n/fewRowsOfBF16*fewRowsOfBF16, p.fewBF16[m-1]
	workers.Each(whole, fewRowsOfBF16, m*k+k, func(lo, hi int) {
		for j := lo; j < hi; j += fewRowsOfBF16 {
			run(&y[j], ldy, &x[0], k, &w[2*j*k], 2*k, k)
		}
	})
	if whole < n { // too few rows to get here again
		p.float(y[whole:], ldy, x, m, BF16, w[2*whole*k:], n-whole, k, workers)
	}
	return true
}
