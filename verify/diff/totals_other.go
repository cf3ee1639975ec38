//go:build !amd64 || purego

package diff

func (t *totals) addVector(_, _, _ []float32) int { return 0 }
