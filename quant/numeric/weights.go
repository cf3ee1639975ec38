package numeric

// Decoder widens the weights of one dtype.
type Decoder struct {
	Size   int // bytes of an element
	Decode func(dst []float32, src []byte)
}

// weights are what Quantize works on, row-major: floats, or bytes to be
// decoded.
type weights struct {
	floats []float32
	raw    []byte
	Decoder
}

func (w *weights) len() int {
	if w.Size > 0 {
		return len(w.raw) / w.Size
	}
	return len(w.floats)
}

// take returns n weights from element at on, in place or decoded into the
// scratch's buffer.
func (x *Scratch) take(at, n int) []float32 {
	if x.src.Size == 0 {
		return x.src.floats[at : at+n]
	}
	x.floats = resize(x.floats, n)
	x.src.Decode(x.floats, x.src.raw[at*x.src.Size:(at+n)*x.src.Size])
	return x.floats
}

// takeBlock returns columns [lo, hi) of n rows from row r on, packed, in the
// scratch's buffer.
func (x *Scratch) takeBlock(r, n, lo, hi int) []float32 {
	width := hi - lo
	x.floats = resize(x.floats, n*width)
	for i := range n {
		dst, at := x.floats[i*width:][:width], (r+i)*x.m.Cols+lo
		if x.src.Size == 0 {
			copy(dst, x.src.floats[at:])
		} else {
			x.src.Decode(dst, x.src.raw[at*x.src.Size:(at+width)*x.src.Size])
		}
	}
	return x.floats
}
