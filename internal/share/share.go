// Package share cuts work into parts of even size, the same on every machine.
package share

// Cut returns the items lo … hi−1 that are part index (from 1) of count:
// consecutive runs, cut where the sizes are even. An item belongs to the part in
// which its middle lies; items of no size are in part 1. With fewer than two
// parts it is all of them.
func Cut(sizes []int64, index, count int) (lo, hi int) {
	if count <= 1 {
		return 0, len(sizes)
	}
	var total, before int64
	for _, n := range sizes {
		total += n
	}
	lo, hi = len(sizes), len(sizes)
	for i, n := range sizes {
		part := 1
		if total > 0 {
			part = min(int(float64(before+n/2)/float64(total)*float64(count))+1, count)
		}
		before += n
		if part >= index && i < lo {
			lo = i
		}
		if part > index {
			return min(lo, i), i
		}
	}
	return lo, hi
}
