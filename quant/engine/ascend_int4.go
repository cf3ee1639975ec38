package engine

import "fmt"

// unpackedInt4: int4 experts with int8 inputs of compressed-tensors, in bytes
// (methods/w4a8.py: process_weights_after_loading_compressed_tensors).
func unpackedInt4(c cell) bool {
	return c.Layout == CompressedTensors && c.Experts.int4() && c.Experts.Acts.Quantized()
}

// cutGroup is the size of groups that ranks cut, 0 for none. The loader gives a
// rank as many columns of scales as there are whole groups in its width, counted
// from the rank's number times that many.
func (c cell) cutGroup() int {
	if g := c.Experts.Weight.Group; g > 0 && c.expertWidth()%g != 0 {
		return g
	}
	return 0
}

// unpackedFit: int4 is packed by eight while it loads, and biases are summed over
// the width in as many equal parts as there are columns of scales.
func unpackedFit(c cell) string {
	n, g := c.expertWidth(), c.cutGroup()
	switch {
	case n%4 != 0:
		return fmt.Sprintf("expert width per rank %d is no multiple of 4", n)
	case g > 0 && (n < g || n%(n/g) != 0):
		return fmt.Sprintf("expert width per rank %d is no multiple of the group size %d; use expert parallelism or a scale for each channel", n, g)
	}
	return ""
}

// groupsTaken: where those parts come out even, scales of other columns count.
func groupsTaken(c cell) string {
	n, g := c.expertWidth(), c.cutGroup()
	if g == 0 || n < g || n%(n/g) != 0 {
		return ""
	}
	return fmt.Sprintf("expert width per rank %d is no multiple of the group size %d: scales of other columns are taken; use expert parallelism or a scale for each channel", n, g)
}
