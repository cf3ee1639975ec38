package safetensors

// Spec names a tensor that is to be written: what a header needs to know.
type Spec struct {
	Name  string
	DType DType
	Shape []int64
}

// Bytes returns the size of the tensor's data, or -1 if the product overflows
// or does not fill whole bytes.
func (s Spec) Bytes() int64 { return DataSize(s.DType, s.Shape) }

// Info is one tensor of an open file: its header entry and where its data
// lies. Offset is absolute in the file (not relative to the data section).
type Info struct {
	Name   string
	DType  DType
	Shape  []int64
	File   string // base name of the shard
	Offset int64
	Size   int64
}

// Elements returns the number of elements (1 for a scalar).
func (t Info) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// DataSize returns the bytes that a tensor of the given type and shape takes,
// computed with overflow checks; -1 if a dimension is negative, the product
// overflows, or the bits do not fill whole bytes.
func DataSize(d DType, shape []int64) int64 {
	const limit = int64(1) << 59
	n := int64(1)
	zero := false
	for _, x := range shape {
		if x < 0 {
			return -1
		}
		if x == 0 {
			zero = true
			continue
		}
		if n > limit/x {
			return -1
		}
		n *= x
	}
	if zero {
		return 0
	}
	bits := int64(d.Bits())
	if bits == 0 || n > limit/bits || n*bits%8 != 0 {
		return -1
	}
	return n * bits / 8
}

// RowSize returns the bytes of one row, a slice along the first dimension: 0
// if it is empty, -1 for a scalar or if a row of a sub-byte type does not fill
// whole bytes.
func (t Info) RowSize() int64 {
	if len(t.Shape) == 0 {
		return -1
	}
	if t.Size == 0 {
		return 0
	}
	return DataSize(t.DType, t.Shape[1:])
}
