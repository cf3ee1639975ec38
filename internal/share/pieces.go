package share

// Pieces takes pieces of n elements spread evenly over a list, total in all, so
// that a few of them see every part of it; at least one. A list shorter than a
// piece is one, up to total.
func Pieces[T any](list []T, total, n int) (out [][]T) {
	whole := len(list) / n
	if whole == 0 && len(list) > 0 {
		return [][]T{list[:min(len(list), total)]}
	}
	want := min(max(1, total/n), whole)
	for i := range want {
		at := i * whole / want * n
		out = append(out, list[at:at+n])
	}
	return out
}
